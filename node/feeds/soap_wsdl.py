"""The description of a SOAP feed that clients make themselves from: ITI-41 alone, since other actions are carried without knowing what they ask."""

import re
from functools import cache
from importlib import resources
from xml.sax.saxutils import escape

HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
QUERIES = frozenset(("wsdl", "WSDL"))  # as clients write it
MEDIA = b"text/xml; charset=utf-8"


def described(*, scheme: str, host: str, path: str, address: str) -> bytes:
    """The description, with the address by which it was asked for; `address` where the client's Host cannot be one."""
    found = f"{scheme}://{host}{path}" if HOST.fullmatch(host) else address
    return _text().replace("@ADDRESS@", escape(found, {'"': "&quot;"})).encode()


@cache
def _text() -> str:
    return (resources.files("node.feeds") / "xds.wsdl").read_text(encoding="utf-8")

"""One HTTP request as a feed sees it, and the writing of its answer."""

import re
from typing import Any

from hl7.fhir_errors import UnknownPath
from node.feeds.fhir_answer import Answer

KEY = re.compile(r"[\x21-\x7e]{1,255}")  # an id of a request that can be kept and compared
COMMON = ((b"x-content-type-options", b"nosniff"),)


class Call:
    """Method, address, headers (lower-case names, repeated ones joined) and peer of a request."""

    __slots__ = ("_path", "_raw_path", "headers", "is_read", "method", "peer", "query")

    def __init__(self, scope: Any) -> None:
        self.method: str = scope["method"]
        self._path: str = scope["path"]
        self._raw_path: str = scope["raw_path"].decode("ascii", "backslashreplace")
        self.query: str = scope["query_string"].decode("ascii", "backslashreplace")
        self.peer: str = scope["client"][0] if scope["client"] else ""
        self.is_read = False  # whether its body was asked for
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), _text(value)
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def below(self, base: str) -> str:
        """The path below this one. Raises UnknownPath."""
        return _below(self._path, base)

    def raw_below(self, base: str) -> str:
        """The same as it was written, with the parameters: for the particulars."""
        path = _below(self._raw_path, base)
        return f"{path}?{self.query}" if self.query else path

    def key(self) -> str:
        """What the client names this request by, so that it can be repeated; empty where it does not, or not usably.

        An update is as good twice; and an older one that came again under a trace's id must not be taken for a repeat.
        """
        found = self.headers.get("idempotency-key", "").strip('"')
        if not found and self.method == "POST":
            found = self.headers.get("x-request-id", "")
        return found if KEY.fullmatch(found) else ""

    async def answer(self, send: Any, answer: Answer) -> None:
        """Write the answer."""
        headers = [*COMMON, *answer.headers, (b"content-length", b"%d" % len(answer.body))]
        if (
            "expect" in self.headers and not self.is_read
        ):  # whether a body follows is the client's choice: what comes next has no meaning
            headers.append((b"connection", b"close"))
        identifier = self.headers.get("x-request-id", "")
        if KEY.fullmatch(identifier):  # FHIR R4 http 3.1.0.20.1: the server uses the client's id, and says so
            headers.append((b"x-request-id", identifier.encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


def _below(path: str, base: str) -> str:
    if path == base or path.startswith(f"{base}/"):
        return path[len(base) :]
    raise UnknownPath


def _text(value: bytes) -> str:
    """A header's value: UTF-8 where it is, else as HTTP had it once."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")

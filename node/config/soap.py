"""A SOAP feed of the configuration: who may send, which actions, and its limits."""

import re
from typing import Annotated, Literal

from hl7.soap import ADDRESSING, ITI_41
from node.config.http import Http
from node.config.kinds import from_text


def _path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", text):
        raise ValueError('must be a plain path such as "/xds/repository"')
    return text


def _uri(text: str) -> str:
    if not re.fullmatch(r"[\x21\x23-\x3b\x3d\x3f-\x7e]{1,200}", text):
        raise ValueError("must be a URI as the sender writes it, of at most 200 characters")
    return text


Uri = Annotated[str, from_text(str, _uri)]


class Soap(Http):
    """SOAP 1.1 and 1.2 over HTTP, with attachments: IHE XDS.b above all."""

    kind: Literal["soap"]
    path: Annotated[str, from_text(str, _path)] = "/soap"
    # What this node answers for: each is answered with success once it is kept, so a site has to say which these are.
    actions: tuple[Uri, ...] = (ITI_41,)
    # Namespaces of headers that senders insist on and the centre reads, such as WS-Security's; WS-Addressing's are understood here.
    understands: tuple[Uri, ...] = ()

    @property
    def understood(self) -> frozenset[str]:
        """Give all namespaces whose headers may insist on being understood."""
        return frozenset((*ADDRESSING, *self.understands))

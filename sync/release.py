"""Releases: a person's signed word that what is held of a node may go on (docs/wire.md, section 5.3)."""

import re
from dataclasses import dataclass

from sync.checkpoint import sign_text, text_of_one
from sync.errors import BadRelease, NotAName, NotANote
from sync.keys import Signer, Verifier
from sync.names import Origin, check_name

FORM = "wasl-release/1"
RELEASE_BYTES_MAX = 256 * 1024  # a line of 150 for each of the thousand streams that a node may have
TIME = re.compile(r"[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """`logs`: the newest of each stream of the node, as the operator saw them. `at`: POSIX seconds by the operator's clock."""

    gateway: str
    node: str
    at: int
    logs: tuple[Origin, ...]

    def text(self) -> str:
        """The signed text, a fact a line."""
        return "".join(f"{line}\n" for line in (FORM, self.gateway, self.node, self.at, *self.logs))


def sign_release(release: Release, signer: Signer) -> bytes:
    """The release as a note signed by an operator's key."""
    return sign_text(release.text(), signer)


def read_release(data: bytes) -> Release:
    """Read a release that was verified when it was stored. Raises BadRelease."""
    text, _, _ = data.decode("utf-8", "replace").partition("\n\n")
    return _parse(f"{text}\n")


def open_release(data: bytes, verifier: Verifier) -> Release:
    """Read and verify a release. Raises BadRelease, BadSignature."""
    try:
        return _parse(text_of_one(data, verifier, most=RELEASE_BYTES_MAX))
    except NotANote as error:
        raise BadRelease(str(error)) from error


def _parse(text: str) -> Release:
    lines = text.split("\n")
    if len(lines) < 5 or lines[0] != FORM or not TIME.fullmatch(lines[3]):
        raise BadRelease("not a release")
    try:
        release = Release(
            gateway=check_name(lines[1]), node=check_name(lines[2]), at=int(lines[3]), logs=tuple(Origin.parse(line) for line in lines[4:-1])
        )  # fmt: skip
    except NotAName as error:
        raise BadRelease(str(error)) from error
    if release.text() != text or any(origin.node != release.node for origin in release.logs):
        raise BadRelease("it is not in its form, or names logs of another node")
    return release

"""A folder feed of the configuration: where files are dropped, when one is complete, and what becomes of it then."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from node.config.feeds import MIB, Check, Feed
from node.config.kinds import FilePath, Name, from_text, not_empty, whole

_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}/[a-z0-9][a-z0-9.+-]{0,80}")


def _glob(text: str) -> str:
    if not 1 <= len(text) <= 100 or "/" in text or not text.isprintable():
        raise ValueError('must be a pattern of file names such as "*.csv", without a folder')
    return text


def _ending(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{1,16}", text):
        raise ValueError('must be a name\'s ending without its dot, in lower case, such as "csv"')
    return text


def _content_type(text: str) -> str:
    if not _TYPE.fullmatch(text):
        raise ValueError('must be a content type such as "text/csv"')
    return text


class Folder(Feed):
    """Files that are dropped into a folder by SFTP, from a stick, or by a program of the site."""

    kind: Literal["folder"]
    path: FilePath
    # The device profile by which its files are read; files that are no table of its kind stay raw.
    profile: Name | Literal[""] = ""
    # Patterns of names; what fits none stays where it is.
    names: Annotated[tuple[Annotated[str, from_text(str, _glob)], ...], AfterValidator(not_empty)] = ("*",)
    # A file whose size and time have not changed for so long is complete. Programs write in bursts; a slow SFTP pauses for a second or two.
    settle_s: Annotated[int, whole(1, 3600)] = 3
    look_s: Annotated[int, whole(1, 3600)] = 2
    # A year of a fridge's minutes is 20 MB of CSV, a scanned report a tenth of that.
    file_mb_max: Annotated[int, whole(1, 512)] = 20
    # What was taken lies in the folder `taken` beside it so long, for whoever dropped it to look at; the record is what counts.
    keep_days: Annotated[int, whole(0, 3650)] = 30
    # And at most so many of them: a folder of a hundred thousand files is slow to list over SFTP.
    keep_files_max: Annotated[int, whole(0, 100_000)] = 10_000
    # Content types by ending, before our own table.
    content_types: Annotated[
        dict[Annotated[str, from_text(str, _ending)], Annotated[str, from_text(str, _content_type)]],
        Field(max_length=64),
    ] = Field(default_factory=dict)
    # The rules for HL7 v2 in files.
    check: Check = Check()

    @property
    def places(self) -> tuple[str, ...]:
        """Where its files are dropped."""
        return (str(self.path),)

    @property
    def file_bytes_max(self) -> int:
        """Give the largest file, in bytes."""
        return self.file_mb_max * MIB

"""Where device profiles are: those that Wasl brings, and a site's own folder, whose files come first."""

import hashlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from hl7.devices.profile import TEXT_CHARACTERS_MAX, Profile, read_profile
from hl7.devices.profile_errors import ProfileProblem

MARK_BYTES: Final = 8  # tells versions of one file apart; it proves nothing
SUFFIX: Final = ".toml"
_BYTES_MAX: Final = 4 * TEXT_CHARACTERS_MAX  # UTF-8 has four bytes at most


def find(name: str, folder: Path | None = None) -> Profile:
    """Return a profile by its name: the site's own, else the one that Wasl brings. Raises ProfileProblem."""
    return read_profile(name, text_of(name, folder))


def marked(name: str, folder: Path | None = None) -> tuple[Profile, tuple[str, bytes]]:
    """Return a profile, and what a record says of it: its name and the beginning of its file's SHA-256."""
    text = text_of(name, folder)
    return read_profile(name, text), (name, mark_of(text))


def mark_of(text: str) -> bytes:
    """Return the beginning of the SHA-256 of a profile's text."""
    return hashlib.sha256(text.encode()).digest()[:MARK_BYTES]


def text_of(name: str, folder: Path | None = None) -> str:
    """Return a profile's TOML as it stands."""
    if Path(name).name != name:
        raise ProfileProblem("", f"{name!r} is no name of a profile")
    if folder is not None and (own := folder / f"{name}{SUFFIX}").is_file():
        return read_text(own)
    shipped = resources.files("hl7.devices") / "profiles" / f"{name}{SUFFIX}"
    if not shipped.is_file():
        known = ", ".join(each for each, _ in names(folder))
        raise ProfileProblem("", f"there is no profile {name!r}; there are {known}")
    return shipped.read_text(encoding="utf-8")


def read_text(file: Path) -> str:
    """Read a profile's file; ProfileProblem where it is none."""
    try:
        if file.stat().st_size > _BYTES_MAX:
            raise ProfileProblem("", f"{file} is larger than a profile")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileProblem("", f"{file} cannot be read: {error}") from None


def names(folder: Path | None = None) -> Iterator[tuple[str, bool]]:
    """Yield the names of all profiles there are, and whether each is the site's own."""
    own = {file.name for file in folder.glob(f"*{SUFFIX}")} if folder is not None and folder.is_dir() else set()
    shipped = {
        file.name for file in (resources.files("hl7.devices") / "profiles").iterdir() if file.name.endswith(SUFFIX)
    }
    for name in sorted(own | shipped):
        yield name.removesuffix(SUFFIX), name in own


def chosen(name: str, folder: Path | None = None) -> Profile:
    """Return a profile by its name, or by its file: one that is being written need not lie in a folder."""
    if name.endswith(SUFFIX):
        file = Path(name)
        return read_profile(file.name.removesuffix(SUFFIX), read_text(file))
    return find(name, folder)

"""Where device profiles are: those that Wasl brings, and a site's own folder, whose files come first."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from hl7.devices.profile import TEXT_CHARACTERS_MAX, Profile, read_profile
from hl7.devices.profile_errors import ProfileProblem

SUFFIX: Final = ".toml"
_BYTES_MAX: Final = 4 * TEXT_CHARACTERS_MAX  # UTF-8 has four bytes at most


def find(name: str, folder: Path | None = None) -> Profile:
    """Return a profile by its name: the site's own, else the one that Wasl brings. Raises ProfileProblem."""
    return read_profile(name, text_of(name, folder))


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

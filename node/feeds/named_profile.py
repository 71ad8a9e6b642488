"""The device profile that a feed names: read once, at the start, and named by each record that the feed stores from then on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hl7.devices.profile import Profile
from hl7.devices.profile_errors import ProfileProblem
from node.devices.profiles import marked
from node.errors import CannotListen
from sync.header import PROFILE


class Named(NamedTuple):
    """A profile, and what records say of it, as a particular; None and nothing where the feed names none."""

    profile: Profile | None = None
    source: Sequence[tuple[int, object]] = ()


def named_by(feed: str, name: str, folder: Path | None) -> Named:
    """Read the profile of this name for the feed. Raises CannotListen."""
    if not name:
        return Named()
    try:
        profile, mark = marked(name, folder)
    except ProfileProblem as error:
        raise CannotListen(f"feed {feed}: profile {name}: {error}") from error
    return Named(profile, ((PROFILE, mark),))

"""Device profiles in the configuration: the site's own folder, and whether each profile that a feed names can be read and fits it."""

from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import BaseModel, ValidationError

from hl7.devices.profile import Profile
from hl7.devices.profile_errors import FramingDiffers, ProfileProblem
from node.config.feeds import Feed
from node.config.kinds import FilePath, Table
from node.config.line import Lines
from node.config.mqtt import Mqtt
from node.config.problems import Problem, Source
from node.config.toml_lines import Place
from node.devices.profiles import find

PROFILE_KEYS: Final = ("profile", "device_profile")  # an MLLP feed's "profile" is a file of hl7apy, and no text


class Devices(Table):
    """The folder of the site's own device profiles (NAME.toml); they come before those that Wasl brings."""

    profiles: FilePath | None = None


def profile_problems(devices: Devices, feeds: Sequence[Feed], source: Source) -> Iterator[Problem]:
    """Read each profile that a feed names, and try it with the feed's own keys."""
    folder = devices.profiles
    if folder is not None and not folder.is_dir():
        yield source.problem(("devices", "profiles"), f'"{folder}" is no folder')
    for position, feed in enumerate(feeds):
        for place, name in _named(feed, ("feeds", position)):
            try:
                profile = find(name, folder)
            except ProfileProblem as error:
                yield source.problem(place, f'the profile "{name}" cannot be read: {error}')
                continue
            if isinstance(feed, Mqtt):
                yield from (source.problem(place, text) for text in _unfit_for_topics(feed, profile))
            elif place[:-1] == ("feeds", position):
                unfit = [source.problem(place, text) for text in _unfit(feed, profile)]
                yield from unfit or _framed_otherwise(feed, profile, place[:-1], source)


def _named(table: BaseModel, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield every profile's name in a table and those below it, with its place."""
    for key in type(table).model_fields:
        value = getattr(table, key)
        if key in PROFILE_KEYS and isinstance(value, str) and value:
            yield (*place, key), value
        elif isinstance(value, BaseModel):
            yield from _named(value, (*place, key))
        elif isinstance(value, tuple):
            for at, each in enumerate(value):
                if isinstance(each, BaseModel):
                    yield from _named(each, (*place, key, at))


def _unfit_for_topics(feed: Mqtt, profile: Profile) -> Iterator[str]:
    """The same for an MQTT feed, whose rules each take what a profile says."""
    if profile.kind != feed.kind:
        yield f'the profile "{profile.name}" is for feeds of kind "{profile.kind}", not "{feed.kind}"'
        return
    for topic in feed.topics:
        if feed.profile_of(topic) != profile.name:
            continue
        try:
            topic.with_profile(profile)
        except ValidationError as error:
            first = error.errors()[0]
            yield f'the profile "{profile.name}" says what this feed cannot do: {".".join(map(str, first["loc"]))}: {first["msg"]}'
            return


def _framed_otherwise(feed: Feed, profile: Profile, place: Place, source: Source) -> Iterator[Problem]:
    """Refuse a line's own keys where they cut its reports otherwise than the profile: what is stored is read wherever the profile is known, and
    the feed's keys are known here alone.
    """
    if not isinstance(feed, Lines):
        return
    for key in feed.framed_otherwise(profile.link):
        yield source.problem(
            (*place, key),
            f"[{FramingDiffers.code}] the profile says otherwise, and what is stored is read by the profile alone: leave this key out,"
            f" or say it in [link] of a profile of the site's own (wasl devices show {profile.name})",
        )


def _unfit(feed: Feed, profile: Profile) -> Iterator[str]:
    """Say why a profile's own switches cannot serve this feed."""
    kind = getattr(feed, "kind", "")
    if profile.kind != kind:
        yield f'the profile "{profile.name}" is for feeds of kind "{profile.kind}", not "{kind}"'
        return
    attempts = [
        (getattr(feed, "with_profile", None), profile.link),
        (getattr(getattr(feed, "serial", None), "line", None), profile.serial),
    ]
    for attempt, switches in attempts:
        if attempt is None:
            continue
        try:
            attempt(switches)
        except ValidationError as error:
            first = error.errors()[0]
            yield f'the profile "{profile.name}" says what this feed cannot do: {".".join(map(str, first["loc"]))}: {first["msg"]}'
        except ValueError as error:
            yield f'the profile "{profile.name}" says what this feed cannot do: {error}'

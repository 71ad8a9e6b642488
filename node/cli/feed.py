"""`wasl feed`: a feed tried before go-live. `wasl record`: what is known of one record."""

import sys
from pathlib import Path
from typing import Any

import click

from node.cli.command import CONFIG, EXIT_UNKNOWN, EXIT_USAGE, load_config


@click.group()
def feed() -> None:
    """Try a feed before go-live."""


def _feed_named(config: Any, name: str) -> Any:  # config.Mllp
    found = next((each for each in config.feeds if each.name == name), None)
    if found is None or found.kind != "mllp":
        names = ", ".join(each.name for each in config.feeds if each.kind == "mllp")
        click.echo(f"no MLLP feed is named {name}; there are: {names}", err=True)
        sys.exit(EXIT_USAGE)
    return found


@feed.command("test")
@CONFIG
@click.option("--structure", is_flag=True, help="Check also by the standard's structure of each message's version.")
@click.option(
    "--profile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check also by a profile of hl7apy_profile_parser.",
)
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def feed_test(config_path: Path, name: str, file: Path, structure: bool, profile: Path | None) -> None:
    """Say what a feed would answer to each message of FILE. Nothing is stored."""
    from node.feeds.trial import FILE_BYTES_MAX, judge, profile_lines

    chosen = _feed_named(load_config(config_path), name)
    if file.stat().st_size > FILE_BYTES_MAX:
        click.echo(f"{file}: larger than {FILE_BYTES_MAX} bytes", err=True)
        sys.exit(EXIT_USAGE)
    found = judge(chosen, file.read_bytes())
    for each in found:
        for line in each.lines():
            click.echo(line)
    for line in profile_lines(file.read_bytes(), profile) if structure or profile else ():
        click.echo(line)
    bad = sum(each.outcome == "rejected" for each in found)
    click.echo(f"{len(found)} messages, {bad} would be refused")
    sys.exit(1 if bad or not found else 0)


@feed.command("report")
@CONFIG
@click.argument("name")
@click.option("--last", type=click.IntRange(1, 1000), default=50, show_default=True)
def feed_report(config_path: Path, name: str, last: int) -> None:
    """Say what a feed answered to the last tests that came to it: those of its trial port, and those with MSH-11 T or D."""
    from node.feeds.trial import STORE_ERRORS, report

    config = load_config(config_path)
    try:
        found = report(config, _feed_named(config, name), last)
    except STORE_ERRORS as error:
        click.echo(f"the outbox cannot be read: {error}", err=True)
        sys.exit(EXIT_UNKNOWN)
    for each in found:
        for line in each.lines():
            click.echo(line)
    click.echo(f"{len(found)} tests, {sum(each.outcome == 'rejected' for each in found)} refused")


@feed.command("capture")
@CONFIG
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def feed_capture(config_path: Path, name: str, file: Path) -> None:
    """Write the last bytes that the devices of a running feed sent, 16 kB at most, to a new FILE, for `wasl devices test`.

    Where they came over several connections each has a file of its own: FILE with a number behind its name, the oldest first.
    """
    from node.control import ask
    from node.errors import CoreSilent

    config = load_config(config_path)
    if all(each.name != name for each in config.feeds):
        click.echo(f"no feed is named {name}; there are: {', '.join(each.name for each in config.feeds)}", err=True)
        sys.exit(EXIT_USAGE)
    try:
        told = ask(config.node.data_dir, f"line {name} received")
    except CoreSilent as error:
        why = (
            "is not of a line, it has no monitor" if str(error) == "LookupError" else "the node's core does not answer"
        )
        click.echo(f"{name}: {why}", err=True)
        sys.exit(EXIT_UNKNOWN)
    if told["received"] is None:
        hint = 'permit it by line_values = "on-request" in [web], and restart the node'
        click.echo(
            f"{name}: what devices send is of patients, and this site has not permitted to show it; {hint}", err=True
        )
        sys.exit(1)
    if not told["received"]:
        click.echo("Nothing has come over this line since the node started; no file was left.")
        sys.exit(1)
    for line in _captured(file, told["received"]):
        click.echo(line)


def _captured(file: Path, received: list[dict[str, Any]]) -> list[str]:
    """Write each connection's bytes to its file, all of them new; what a person has to know of each."""
    from base64 import b64decode
    from contextlib import ExitStack

    from node.cli.line import kept, new_file
    from node.clock import iso

    names = (
        [file] if len(received) == 1 else [file.with_stem(f"{file.stem}-{at}") for at in range(1, len(received) + 1)]
    )
    told = []
    with ExitStack() as files:
        made = []
        for name in names:  # all of them before the first byte: where one is there already, none is left
            made.append(new_file(name))
            files.callback(made[-1].close)
        for each, sent in zip(made, received, strict=True):
            each.write(b64decode(sent["data"]))
            begin = "" if sent["is_whole"] else "; its beginning is not remembered any more"
            told.append(f"{kept(each)} From {sent['peer'] or 'the device'}, {iso(sent['at_us'])}{begin}.")
    return told


@click.command()
@CONFIG
@click.argument("stream")
@click.argument("epoch", type=click.IntRange(1))
@click.argument("seq", type=click.IntRange(0))
def record(config_path: Path, stream: str, epoch: int, seq: int) -> None:
    """Say what is known of one record, and what the signatures in it are worth. Its content is not shown."""
    from node.clock import SystemClock
    from node.errors import NodeError
    from node.feeds.trial import STORE_ERRORS
    from node.record import find, lines

    config = load_config(config_path)
    try:
        found = find(config, stream, epoch, seq)
    except STORE_ERRORS as error:
        click.echo(f"the outbox cannot be read: {error}", err=True)
        sys.exit(EXIT_UNKNOWN)
    if found is None:
        click.echo(f"there is no record {stream}/{epoch}/{seq}", err=True)
        sys.exit(1)
    try:
        for line in lines(config, found, SystemClock()):
            click.echo(line)
    except NodeError as error:
        click.echo(f"{error.code}: {error}\n{error.hint}", err=True)
        sys.exit(1)

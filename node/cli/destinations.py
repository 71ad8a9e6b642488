"""`wasl destination`: what the site's own systems took, what stands parked, what is to be sent again. Through the core where it runs, else by itself."""

import fcntl
import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from node.cli.command import CONFIG, EXIT_CONFIG

NAME: Final = click.argument("name")


@click.group("destination")
def destination_group() -> None:
    """The site's own systems: list, parked, replay, skip."""


@destination_group.command("list")
@CONFIG
@click.option("--json", "as_json", is_flag=True)
def list_command(config_path: Path, as_json: bool) -> None:
    """Say where each destination stands."""
    found = _order(config_path, "list")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for each in found:
        click.echo(
            f"{each['name']} ({each['kind']} {each['address']}): {each['waiting']} waiting, {each['parked']} parked"
        )
        for stream, at in each["streams"].items():
            click.echo(f"  {stream}/{at['epoch']}/{at['seq']}: {at['waiting']} waiting")


@destination_group.command("parked")
@CONFIG
@NAME
@click.option("--json", "as_json", is_flag=True)
def parked_command(config_path: Path, name: str, as_json: bool) -> None:
    """Say what a destination did not take, and why."""
    from node.catalogue import hint
    from node.destinations.errors import CHANGED

    found = _order(config_path, "parked", name)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for row in found:
        many = f" and {row['records'] - 1} more" if row["records"] > 1 else ""
        part = "" if row["part"] in {None, 0} else f" message {row['part'] + 1}"
        is_known = row["body"] or row["reason"] == CHANGED  # of a changed entry nobody knows whose body it would be
        state = ", waits to be sent again" if row["replay"] else "" if is_known else ", its body is gone"
        click.echo(
            f"{row['id']}: {row['stream']}/{row['epoch']}/{row['seq']}{part}{many}, {row['at']}, {row['reason']} {row['detail']}{state}"
        )
    for code in sorted({row["reason"] for row in found}):
        click.echo(f"{code}: {hint(code)}")


@destination_group.command("unmapped")
@CONFIG
@NAME
@click.option("--json", "as_json", is_flag=True)
def unmapped_command(config_path: Path, name: str, as_json: bool) -> None:
    """Say what of the converted messages has no place in their new form: paths and counts since the core started, no values."""
    found = _order(config_path, "unmapped", name)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    click.echo(f"{found['converted']} converted, {found['unmapped']} values have no place")
    for row in found["paths"]:
        click.echo(f"{row['count']:8} {row['path']}{': ' if row['reason'] else ''}{row['reason']}")


@destination_group.command("replay")
@CONFIG
@NAME
@click.argument("rows", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every parked message whose body is still here.")
@click.option(
    "--from", "position", default="", help="STREAM/EPOCH/SEQ or STREAM/start: everything from there on, in order."
)
def replay_command(config_path: Path, name: str, rows: tuple[str, ...], everything: bool, position: str) -> None:
    """Send parked messages again, by their numbers; or a stream from a position on."""
    if bool(rows) + everything + bool(position) != 1:
        raise click.UsageError("name the parked messages, or --all, or --from")
    if position:
        click.echo(f"{_order(config_path, 'go', name, position)} records are sent again")
        return
    click.echo(f"{_order(config_path, 'replay', name, *(rows or ('all',)))} are sent again")


@destination_group.command("skip")
@CONFIG
@NAME
@click.argument("stream", required=False)
@click.option("--to", "position", default="", help="STREAM/EPOCH/SEQ or STREAM/end: put aside all before it.")
@click.option("--parked", "row", default="", help="Forget a parked message, by its number, or `all`.")
def skip_command(config_path: Path, name: str, stream: str | None, position: str, row: str) -> None:
    """Put aside the message at which a stream waits; it can be replayed. Or forget what is parked."""
    if bool(stream) + bool(position) + bool(row) != 1:
        raise click.UsageError("name a stream, or --to, or --parked")
    if row:
        click.echo(f"{_order(config_path, 'dismiss', name, row)} forgotten")
    elif position:
        click.echo(f"{_order(config_path, 'go', name, position)} records are put aside")
    else:
        click.echo(f"{_order(config_path, 'skip', name, str(stream))} is put aside")


def _order(config_path: Path, *words: str) -> Any:
    """Have the core carry it out, or do it. Ends the process where it cannot be done."""
    from node.catalogue import hint
    from node.config.config import ConfigError, load
    from node.control import ask
    from node.data_folder import LOCK_NAME
    from node.errors import CoreSilent, NodeError
    from sync.errors import SyncError

    try:
        config = load(config_path)
        config.node.data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        with (config.node.data_dir / LOCK_NAME).open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return ask(config.node.data_dir, " ".join(("destination", *words)))
            return _alone(config, words)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CONFIG)
    except CoreSilent as error:
        said = hint(str(error))
        click.echo(f"{error}" if said == str(error) else f"{error}: {said}", err=True)
    except (NodeError, SyncError) as error:
        click.echo(f"{error.code}: {error}\n{error.hint}", err=True)
    sys.exit(1)


def _alone(config: Any, words: tuple[str, ...]) -> Any:
    """Without a core: open the outbox as the core would, for this one order."""
    from node.clock import SystemClock
    from node.data_folder import STORE_NAME
    from node.destinations.desk import Desk
    from node.destinations.errors import NoSuchDestination
    from node.destinations.site import carry_out
    from node.keystore import load as load_keys
    from sync.outbox import Outbox

    store = config.node.data_dir / STORE_NAME
    if not store.exists():
        raise NoSuchDestination("there is no outbox yet")
    with closing(Outbox(store, signer=load_keys(config).signer, random=os.urandom, recent_max=0)) as outbox:
        desk = Desk(
            config.outlets, node=config.node.name, store=store, order=lambda work: work(outbox), now_us=SystemClock().now_us
        )  # fmt: skip
        return carry_out(desk, words[0], words[1:])

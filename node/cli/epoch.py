"""`wasl epoch`: a person's order that a stream goes on under a further epoch."""

import sys
from pathlib import Path

import click

from node.cli.command import CONFIG, load_config


@click.group()
def epoch() -> None:
    """Further epochs of a stream."""


@epoch.command("open")
@CONFIG
@click.argument("stream")
def epoch_open(config_path: Path, stream: str) -> None:
    """Let STREAM go on under a further epoch: it stands still (SYN-31, SYN-32) and the centre agrees. The core must run.

    Nothing is lost, intake goes on. The centre holds what comes under the new epoch until a person there releases it.
    """
    from node.control import ask
    from node.errors import CoreSilent, NoSuchStream
    from sync.names import NAME

    config = load_config(config_path)
    try:
        if not NAME.fullmatch(stream):
            raise NoSuchStream(stream)
        epoch = ask(config.node.data_dir, f"part {stream}")
    except CoreSilent as error:
        failed = NoSuchStream(stream) if str(error) == NoSuchStream.code else error
        click.echo(f"NOT ORDERED [{failed.code}]: {failed}. {failed.hint}", err=True)
        sys.exit(1)
    except NoSuchStream as error:
        click.echo(f"NOT ORDERED [{error.code}]: {error}. {error.hint}", err=True)
        sys.exit(1)
    click.echo(
        f"Ordered: {stream}, now under epoch {epoch}, goes on under a further one as soon as the gateway has been asked what it holds."
    )
    click.echo(
        f"`wasl status` then names NOD-36 for {stream}, until the centre has released it. A restart before that takes the order back."
    )

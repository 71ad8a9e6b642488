"""What the commands share: the option that names the configuration, how it is read, exit codes of sysexits.h."""

import logging
import sys
from pathlib import Path
from typing import Any

import click
import structlog

EXIT_USAGE, EXIT_CONFIG = 64, 78
EXIT_UNKNOWN = 3
click.UsageError.exit_code = EXIT_USAGE  # click's own 2 is what `status` says of a node that failed
CONFIG = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=Path("/etc/wasl/node.toml"), show_default=True
)


def _configure_logs(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


class Explained(click.Group):
    """Commands whose ValueError and OSError are of what the person named, and are told in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read what it prints has gone: click ends it without a word
            raise
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error


def load_config(path: Path) -> Any:  # Config; imported late, so that `wasl verify` starts at once
    """Read the configuration and set up logs; what is wrong in it ends the command with EXIT_CONFIG."""
    from node.config.config import ConfigError, load

    try:
        config = load(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CONFIG)
    _configure_logs(config.log.level)
    return config

"""`python -m gateway --config FILE`: run one gateway until it is told to stop."""

import sys
from pathlib import Path

import click

from gateway.app import run
from gateway.config import ConfigError, load
from gateway.errors import GatewayError
from sync.errors import SyncError

EXIT_CONFIG = 78  # sysexits EX_CONFIG: starting it again will not help


@click.command()
@click.option("--config", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help="TOML file.")
def main(path: Path) -> None:
    """Run one gateway."""
    try:
        code = run(load(path))
    except (ConfigError, GatewayError, SyncError, OSError) as error:
        hint = getattr(error, "hint", "")
        click.echo(f"gateway: {error}" + (f"\n{hint}" if hint else ""), err=True)
        code = EXIT_CONFIG
    sys.exit(code)


if __name__ == "__main__":
    main()

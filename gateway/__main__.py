"""`python -m gateway --config FILE`: run one gateway until it is told to stop. `import` takes a stick that came by hand."""

import sys
from pathlib import Path

import click

from gateway.app import run, start_logs
from gateway.config import ConfigError, load
from gateway.errors import BadSetup, GatewayError
from gateway.stick import folders, import_folder, open_desk
from gateway.stick_words import explained
from sync.errors import BadStick, SyncError

EXIT_CONFIG = 78  # sysexits EX_CONFIG: starting it again will not help
EXIT_FAILED = 1  # whatever else it is may be over the next time
click.UsageError.exit_code = 64  # EX_USAGE
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(invoke_without_command=True)
@click.option("--config", "path", type=FILE, help="TOML file.")
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """Run one gateway."""
    if context.invoked_subcommand is not None:
        return
    if path is None:
        raise click.UsageError("Missing option '--config'.")
    try:
        code = run(load(path))
    except (ConfigError, GatewayError, SyncError, OSError) as error:
        code = _explained(error)
    sys.exit(code)


@main.command("import")
@click.option("--config", "path", required=True, type=FILE, help="TOML file.")
@click.argument("stick", type=click.Path(exists=True, file_okay=False, path_type=Path))
def import_stick(path: Path, stick: Path) -> None:
    """Commit what nodes exported onto a stick, and leave their receipts on it."""
    start_logs()
    good = True
    try:
        with open_desk(load(path)) as desk:
            for folder in folders(stick):
                try:
                    done = import_folder(desk, folder)
                except (BadStick, OSError) as error:
                    good = False
                    click.echo(f"{folder.name}: REFUSED: {error}")
                    continue
                good = good and not done.refused
                click.echo(f"{done.node}: {done.records} records are in the ledger, receipts are on the stick")
                for stream, code in done.refused.items():
                    click.echo(f"{done.node}: stream {stream} was not taken further: {explained(code)}")
    except (ConfigError, GatewayError, SyncError, OSError) as error:
        sys.exit(_explained(error))
    sys.exit(0 if good else 1)


def _explained(error: Exception) -> int:
    hint = getattr(error, "hint", "")
    click.echo(f"gateway: {error}" + (f"\n{hint}" if hint else ""), err=True)
    return EXIT_CONFIG if isinstance(error, ConfigError | BadSetup) else EXIT_FAILED


if __name__ == "__main__":
    main()

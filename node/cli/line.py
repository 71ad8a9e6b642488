"""`wasl devices line`: which settings a serial line has, found by listening, and its bytes as a file."""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli.command import EXIT_USAGE

if TYPE_CHECKING:
    from hl7.devices.line_guess import Guess
    from node.config.serial import Line
    from node.lines.capture import CaptureFile

WORDS = {
    "sure": "sure",
    "likely": "likely; listen once more, or compare with the device's manual",
    "perhaps": "only perhaps; compare with the device's manual",
}
SETTINGS: Final = re.compile(r"([0-9]{3,6})[ -]?([78])([NEO])(1|2)", re.IGNORECASE)
PARITIES: Final = {"N": "none", "E": "even", "O": "odd"}
CAPTURE_S: Final = 60.0  # a person goes to the device and has it print


@click.command("line")
@click.argument("port")
@click.option(
    "--seconds", type=click.FloatRange(0.2, 60), default=3.0, show_default=True, help="To listen at each setting."
)
@click.option(
    "--capture", "path", type=click.Path(path_type=Path), help="Then keep what the device sends in this new file."
)
@click.option(
    "--capture-seconds", type=click.FloatRange(0.2, 3600), default=CAPTURE_S, show_default=True,
    help="How long; Ctrl-C ends it sooner.",
)  # fmt: skip
@click.option("--at", "settings", default="", help='Do not look for the settings: they are these, such as "9600 8N1".')
def line_command(port: str, seconds: float, path: Path | None, capture_seconds: float, settings: str) -> None:
    """Find baud rate, parity and framing of PORT while its device sends. Listens only; no byte is written."""
    from node.lines.serial_errors import CannotSet, PortTaken

    line = _line(port, settings)
    file = None if path is None else new_file(path)
    try:
        if not settings:
            line = _found(line, seconds)
        elif file is None:
            raise click.UsageError("--at is for --capture")
        if file is not None:
            _keep(line, file, capture_seconds)
    except PortTaken:
        click.echo(
            f"{port}: another program has it [SER-02]; if it is this node's own feed, stop the node first, or see"
            " `wasl feed capture`", err=True
        )  # fmt: skip
        sys.exit(1)
    except CannotSet as error:
        click.echo(f"{port}: {error.strerror} [SER-03]", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"{port}: {error.strerror or error} [SER-01]", err=True)
        sys.exit(1)
    finally:
        if file is not None:
            file.close()


def _line(port: str, settings: str) -> "Line":
    """The port at the settings given, or at 9600 8N1."""
    from pydantic import ValidationError

    from node.config.serial import Serial

    given = SETTINGS.fullmatch(settings.strip())
    if settings and not given:
        click.echo(f'--at {settings}: must be such as "9600 8N1" or "19200 7E1"', err=True)
        sys.exit(EXIT_USAGE)
    keys = {}
    if given:
        keys = {
            "baud": int(given[1]),
            "bits": int(given[2]),
            "parity": PARITIES[given[3].upper()],
            "stop": int(given[4]),
        }
    try:
        return Serial.model_validate({"port": port, **keys}).line()
    except ValidationError as error:
        click.echo(f"{port}: {error.errors()[0]['ctx']['error']}", err=True)
        sys.exit(EXIT_USAGE)


def _found(line: "Line", seconds: float) -> "Line":
    """Listen at each setting, say what was found, and give the line so set."""
    import time

    from hl7.devices.line_guess import Trial, judge
    from node.lines.capture import guessed
    from node.lines.serial_detect import detect

    is_server = line.port.startswith("socket://")

    def told(trial: Trial) -> None:
        heard, judged = trial.heard, judge(trial)
        setting = "as the device server is set" if is_server else f"{trial.baud} {trial.bits}{trial.parity[0].upper()}1"
        click.echo(
            f"  {setting:>12}: {heard.total} bytes, {heard.marks} wrong, {judged.told}"
            f"{f', {heard.enquiries} ENQ' if heard.enquiries else ''} -> {judged.sureness}"
        )

    click.echo(f"Listening on {line.port}; let the device send now, and go on sending.")
    guess = detect(line.port, seconds=seconds, told=told, now=time.monotonic)
    if guess is None:
        click.echo(
            "Nothing that could be read. Is the device sending? Are transmit and receive crossed (a null-modem cable)?"
        )
        sys.exit(1)
    _show(line.port, guess, is_server=is_server)
    return guessed(line, guess)


def _show(port: str, guess: "Guess", *, is_server: bool) -> None:
    """The settings, and a table for the configuration."""
    from hl7.devices.line_guess import guess_framing

    if not is_server:
        click.echo(f"{guess.shorthand}: {WORDS[guess.sureness]}")
    words, lines = guess_framing(guess.sample)
    click.echo(f"It looks like {words}.")
    serial = (
        []
        if is_server
        else [f"baud = {guess.baud}", f"bits = {guess.bits}", f'parity = "{guess.parity}"', 'flow = "none"']
    )
    for text in ("", "[[feeds]]", 'name = "NAME"', *lines, "[feeds.serial]", f'port = "{port}"', *serial):
        click.echo(text)


def new_file(path: Path) -> "CaptureFile":
    """Made before anything else: a person should not have a device print for a file that cannot be."""
    from node.lines.capture import CaptureFile

    try:
        return CaptureFile(path)
    except FileExistsError:
        click.echo(f"{path}: is there already, and is not overwritten", err=True)
    except OSError as error:
        click.echo(f"{path}: {error.strerror}", err=True)
    sys.exit(EXIT_USAGE)


def _keep(line: "Line", file: "CaptureFile", seconds: float) -> None:
    import time

    from node.lines.capture import BYTES_MAX, capture

    click.echo(
        f"\nKeeping what comes for {seconds:g} s, {BYTES_MAX} bytes at most; let the device send. Ctrl-C ends it."
    )
    with suppress(KeyboardInterrupt):
        capture(line, file, seconds=seconds, now=time.monotonic)
    if not file.length:
        click.echo("Nothing came; no file was left.")
        sys.exit(1)
    click.echo(kept(file))


def kept(file: "CaptureFile") -> str:
    """What a person has now, and has to know of it."""
    return f"{file.path}: {file.length} bytes. They may name patients: only you can read the file; delete it when the profile is done."

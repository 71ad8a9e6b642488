"""`wasl devices line`: which settings a serial line has, found by listening."""

import sys

import click

from node.command import EXIT_USAGE

WORDS = {
    "sure": "sure",
    "likely": "likely; listen once more, or compare with the device's manual",
    "perhaps": "only perhaps; compare with the device's manual",
}


@click.command("line")
@click.argument("port")
@click.option(
    "--seconds", type=click.FloatRange(0.2, 60), default=3.0, show_default=True, help="To listen at each setting."
)
def line_command(port: str, seconds: float) -> None:
    """Find baud rate, parity and framing of PORT while its device sends. Listens only; no byte is written."""
    import time

    from pydantic import ValidationError

    from hl7.devices.line_guess import Trial, guess_framing, judge
    from node.config_serial import Serial
    from node.serial_detect import detect
    from node.serial_port import PortTaken

    def told(trial: Trial) -> None:
        heard, judged = trial.heard, judge(trial)
        setting = "as the device server is set" if is_server else f"{trial.baud} {trial.bits}{trial.parity[0].upper()}1"
        click.echo(
            f"  {setting:>12}: {heard.total} bytes, {heard.marks} wrong, {judged.told}"
            f"{f', {heard.enquiries} ENQ' if heard.enquiries else ''} -> {judged.sureness}"
        )

    try:
        is_server = Serial(port=port).port.startswith("socket://")
    except ValidationError as error:
        click.echo(f"{port}: {error.errors()[0]['ctx']['error']}", err=True)
        sys.exit(EXIT_USAGE)
    click.echo(f"Listening on {port}; let the device send now, and go on sending.")
    try:
        guess = detect(port, seconds=seconds, told=told, now=time.monotonic)
    except PortTaken:
        click.echo(
            f"{port}: another program has it [SER-02]; if it is this node's own feed, stop the node first", err=True
        )
        sys.exit(1)
    except OSError as error:
        click.echo(f"{port}: {error.strerror or error} [SER-01]", err=True)
        sys.exit(1)
    if guess is None:
        click.echo(
            "Nothing that could be read. Is the device sending? Are transmit and receive crossed (a null-modem cable)?"
        )
        sys.exit(1)
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

"""`wasl`: the command line. Each command is thin; exit codes follow sysexits.h, `status` and `doctor` 0 ok, 1 attention, 2 failed, 3 unknown."""

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import structlog

from node.cli.command import CONFIG, EXIT_CONFIG, EXIT_UNKNOWN, Explained, load_config
from node.cli.destinations import destination_group
from node.cli.devices import FOLDER, devices_group
from node.cli.epoch import epoch
from node.cli.feed import feed, record
from node.cli.line import line_command

EXIT_NOT_PROVED, EXIT_CANNOT_WRITE = 1, 73
EXIT_OF_STATE = {"ok": 0, "unproven": 0, "waiting": 0, "attention": 1, "failed": 2}


@click.group()
@click.version_option(package_name="wasl-node")
def main() -> None:
    """Wasl: carries a clinic's messages to the national health record, in order, with proof."""


@main.command()
@CONFIG
def node(config_path: Path) -> None:
    """Run the node's core: take messages, store, send."""
    from hl7.devices.errors import DeviceError
    from node.app import run
    from node.errors import NodeError
    from node.selfcheck import check_owners
    from sync.errors import SyncError

    config = load_config(config_path)
    try:
        check_owners()
        run(config)
    except (NodeError, SyncError, DeviceError) as error:
        structlog.get_logger().critical("core.cannot_start", code=error.code, detail=str(error), hint=error.hint)
        sys.exit(1)


@main.command()
@CONFIG
def web(config_path: Path) -> None:
    """Run the node's page, a process beside the core."""
    from node.web_process import run

    run(load_config(config_path))


GATEWAY_CONFIG = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=Path("/etc/wasl/gateway.toml"), show_default=True
)  # fmt: skip
STICK = click.argument("stick", type=click.Path(exists=True, file_okay=False, path_type=Path))


def _become_gateway(*arguments: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", "gateway", *arguments])  # noqa: S606  # our own program, no shell wanted


@main.group(invoke_without_command=True)
@GATEWAY_CONFIG
@click.pass_context
def gateway(context: click.Context, config_path: Path) -> None:
    """Run the central gateway."""
    if context.invoked_subcommand is None:
        _become_gateway("--config", str(config_path))


@gateway.command("import")
@GATEWAY_CONFIG
@STICK
def import_stick(config_path: Path, stick: Path) -> NoReturn:
    """Commit what nodes exported onto a stick, and leave their receipts on it."""
    _become_gateway("import", "--config", str(config_path), str(stick))


@main.command()
@CONFIG
@click.option("--receipts", "only_receipts", is_flag=True, help="Take the receipts on it and write nothing.")
@STICK
def export(config_path: Path, only_receipts: bool, stick: Path) -> None:
    """Write what waits for the gateway onto a stick, to be carried there by hand; take the receipts that came back on it."""
    from node.clock import SystemClock
    from node.errors import NodeError
    from node.keystore import load as load_keys
    from node.stick.back import take_receipts
    from node.stick.export import check_left
    from node.stick.export import export as write_stick
    from node.stick.words import home_lines, written_lines
    from sync.errors import LogBroken, SyncError

    config = load_config(config_path)
    try:
        keystore, clock = load_keys(config), SystemClock()
        broken = None
        try:
            for line in home_lines(take_receipts(config, keystore, clock, stick)):
                click.echo(line)
        except LogBroken as error:
            # nothing is written into a damaged outbox; but what is good of it is carried all the same
            broken = error
        if broken is not None:
            click.echo(f"receipts NOT TAKEN [{broken.code}]: {broken}. They stay on the stick")
        if only_receipts:
            sys.exit(0 if broken is None else 1)
        written = write_stick(config, keystore, clock, stick)
        for line in written_lines(written):
            click.echo(line)
        check_left(written)
        if broken is not None:
            raise broken
    except (NodeError, SyncError) as error:
        click.echo(f"{error.code}: {error}\n{error.hint}", err=True)
        sys.exit(1)


@main.command("check-config")
@CONFIG
def check_config(config_path: Path) -> None:
    """Say whether the configuration would start, or file, line and key of what would not."""
    from node.config.config import check

    problems = check(config_path)
    for problem in problems:
        click.echo(str(problem))
    if problems:
        sys.exit(EXIT_CONFIG)
    click.echo(f"{config_path}: good")


@main.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="The whole status document.")
def status(config_path: Path, as_json: bool) -> None:
    """Say how the node is, in one sentence or as JSON."""
    from node.clock import SystemClock
    from node.key_status import key_line
    from node.status import Status
    from node.web.speech import speech
    from node.web.words import verdict

    document = Status(load_config(config_path), SystemClock()).document()
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        click.echo(f"{document['state']}: {verdict(document, speech('en'))}")
        if line := key_line(document["log_key"]):
            click.echo(line)
    sys.exit(EXIT_OF_STATE.get(document["state"], EXIT_UNKNOWN))


@main.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="All findings as JSON.")
def doctor(config_path: Path, as_json: bool) -> None:
    """Examine installation, keys, store, core, clock and link."""
    from node.clock import SystemClock
    from node.doctor import examine

    findings = examine(load_config(config_path), SystemClock())
    if as_json:
        rows = [{"check": f.check, "good": f.good, "code": f.code, "seen": f.seen, "hint": f.hint} for f in findings]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        for found in findings:
            mark = "good" if found.good else "BAD "
            click.echo(f"{mark} {found.check}: {found.seen}{f' [{found.code}] {found.hint}' if found.code else ''}")
    bad = {found.check for found in findings if not found.good}
    sys.exit(EXIT_OF_STATE["failed" if "core" in bad else "attention" if bad else "ok"])


@main.command()
@CONFIG
@click.option("--dry-run", is_flag=True, help="Say what would be lost and change nothing.")
def repair(config_path: Path, dry_run: bool) -> None:
    """Make a damaged outbox whole again: keep what verifies, name what is gone. The core must be stopped."""
    from node.clock import SystemClock
    from node.errors import NodeError
    from node.repair import lines, repair
    from sync.errors import SyncError

    try:
        for line in lines(repair(load_config(config_path), SystemClock(), dry_run=dry_run)):
            click.echo(line)
    except (NodeError, SyncError) as error:
        click.echo(f"NOT REPAIRED [{error.code}]: {error}. {error.hint}", err=True)
        sys.exit(1)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The authority's certificate that you trust.",
)
@click.option("--body", "body_path", type=click.Path(path_type=Path), help="Write the proved message here.")
def verify(file: Path, ca: Path | None, body_path: Path | None) -> None:
    """Verify an evidence file, offline."""
    from datetime import UTC, datetime, timedelta

    from sync.errors import BadEvidence
    from sync.evidence import verify as verify_evidence

    try:
        proved = verify_evidence(file.read_bytes(), anchor=ca.read_bytes() if ca else None)
    except BadEvidence as error:
        click.echo(f"NOT PROVED: {error}")
        sys.exit(EXIT_NOT_PROVED)
    received = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=proved.header.received_us)).isoformat()
    held = datetime.fromtimestamp(proved.time, UTC).isoformat()
    click.echo(f"PROVED: record {proved.seq} of {proved.origin}")
    click.echo(
        f"  facility {proved.header.facility}, feed {proved.header.feed}, {proved.header.kind.word}, {proved.header.verdict.word}"
    )
    click.echo(f"  {proved.header.content_type} {proved.header.message_type}, {proved.header.body_bytes} bytes")
    click.echo(f"  received {received} by the node's clock (error at most {proved.header.clock_error_us} µs)")
    click.echo(f"  held by gateway {proved.gateway} at {held}, in a log of {proved.size} records")
    click.echo(f"  body: {'proved' if proved.body is not None else 'only its commitment is proved'}")
    click.echo(f"  authority SHA-256 {proved.anchor_sha256}{'' if ca else ' (compare it: no --ca was given)'}")
    if body_path is not None and proved.body is not None:
        try:
            body_path.write_bytes(proved.body)
        except OSError as error:
            click.echo(f"proved, but the message was not written: {error}", err=True)
            sys.exit(EXIT_CANNOT_WRITE)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "target", type=click.Choice(["fhir", "v2"]), default="fhir", show_default=True)
@click.option(
    "--zone", default="", help="Of times that name none: +03:00 or Asia/Riyadh. Without it they lose their time of day."
)
@click.option("--charset", default="", help="Of the text, whatever MSH-18 says, such as cp1256.")
@click.option("--facility", default="", help="Whose identifiers these are; ids of resources depend on it.")
@click.option(
    "--profile", default="", help="The device that sent it, by its profile's name or file: `wasl devices list`."
)
@FOLDER
def convert(file: Path, target: str, zone: str, charset: str, facility: str, profile: str, folder: Path | None) -> None:
    """Show what becomes of HL7 v2 messages, or of what a device sent, in FHIR R4 (or of a Bundle in v2), and what does not.

    An evidence file is read by the profile that its record names, which is the one that its feed named when it came; --profile goes before it.
    HL7 v2 needs none, FHIR is shown as it came. Exit 1 where anything is not converted: standard error says what, and why.
    """
    from hl7.devices.profile_errors import ProfileProblem
    from node.convert import BadSetting, settings_of, to_fhir, to_v2
    from node.devices import convert as devices_convert
    from node.devices.evidence import Asked, converted, unpacked
    from node.devices.profiles import chosen

    try:
        settings, data = settings_of(zone=zone, charset=charset, facility=facility), file.read_bytes()
        if (record := unpacked(data)) is not None:
            shown, left, is_whole = converted(record, Asked(settings, profile, folder, target))
        elif profile:
            shown, left, is_whole = devices_convert.to_fhir(data, chosen(profile, folder), settings)
        else:
            shown, left, is_whole = (to_fhir if target == "fhir" else to_v2)(data, settings)
    except (BadSetting, ProfileProblem, ValueError) as error:
        raise click.UsageError(str(error)) from error
    for text in shown:
        click.echo(text)
    for line in left:
        click.echo(line, err=True)
    sys.exit(0 if is_whole else 1)


@main.command()
@click.option("--port-base", type=int, default=None, help="Also WASL_DEMO_PORT_BASE.")
def demo(port_base: int | None) -> None:
    """Run the demo on loopback: an authority, a node, a gateway, a simulated hospital."""
    from node.tools.demo import run

    run(port_base=port_base)


@main.group(cls=Explained)
def simulate() -> None:
    """Pretend to be a source."""


@simulate.command("hl7")
@click.option("--to", "address", required=True, help="host:port of an MLLP feed.")
@click.option("--rate", type=float, default=1.0, show_default=True, help="Messages a second at most.")
@click.option("--count", type=int, default=None, help="Stop after so many; without it, never.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--kinds", default="", help='Such as "ADT,ORU^R01"; all without it.')
def simulate_hl7(address: str, rate: float, count: int | None, seed: int, kinds: str) -> None:
    """A hospital: admissions, orders, results, with invented people."""
    from node.tools.hospital import ALL_KINDS, kinds_named
    from node.tools.mllp_client import simulate as send

    answers = send(address, rate_per_s=rate, count=count, seed=seed, kinds=kinds_named(kinds) if kinds else ALL_KINDS)
    click.echo(", ".join(f"{code} {number}" for code, number in sorted(answers.items())))


def _add_tools() -> None:
    """The image has no tools; there `wasl pki` and `wasl release` are simply no commands."""
    try:
        from node.tools.pki_commands import pki_group
    except ImportError:
        return
    from node.tools.release import release_command
    from node.tools.simulators import COMMANDS

    main.add_command(pki_group, "pki")
    main.add_command(release_command)
    for command in COMMANDS:
        simulate.add_command(command)


_add_tools()
for _command in (destination_group, devices_group, epoch, feed, record):
    main.add_command(_command)
devices_group.add_command(line_command)

if __name__ == "__main__":
    main()

"""`wasl devices`: the profiles there are, one of them as it stands, and what a capture of a device becomes by it."""

import sys
from pathlib import Path

import click

from hl7.devices.profile_errors import ProfileProblem

FOLDER = click.option(
    "--profiles", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None,
    help="The site's own profiles; they come before those that Wasl brings.",
)  # fmt: skip


@click.group("devices")
def devices_group() -> None:
    """Analyzers, monitors, fridges: their profiles."""


@devices_group.command("list")
@FOLDER
def list_profiles(folder: Path | None) -> None:
    """List the profiles there are."""
    from node.devices.profiles import find, names

    is_good = True
    for name, is_own in names(folder):
        try:
            profile = find(name, folder)
        except ProfileProblem as error:
            click.echo(f"{name:24} NOT READ [{error.code}] {error}", err=True)
            is_good = False
            continue
        codes = len(profile.codes) + len(profile.by_unit)
        click.echo(f"{name:24} {profile.kind:8} {codes:4} codes  {profile.title}{' (own)' if is_own else ''}")
    sys.exit(0 if is_good else 1)


@devices_group.command("show")
@FOLDER
@click.argument("name")
def show_profile(folder: Path | None, name: str) -> None:
    """Print a profile as it stands: the beginning of one's own."""
    from node.devices.profiles import text_of

    try:
        click.echo(text_of(name, folder), nl=False)
    except ProfileProblem as error:
        _refuse(error)


@devices_group.command("test")
@FOLDER
@click.argument("name", metavar="PROFILE")
@click.option(
    "--capture",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Bytes of the device's line, or a file of its own.",
)
@click.option(
    "--zone", default="", help="Of times that name none, where the profile says nothing: +03:00 or Asia/Riyadh."
)
@click.option("--facility", default="", help="Whose identifiers these are.")
@click.option("--fhir", "with_fhir", is_flag=True, help="Also print the Bundles.")
def test_profile(folder: Path | None, name: str, capture: Path, zone: str, facility: str, *, with_fhir: bool) -> None:
    """Show what a capture becomes: frames, records, readings, FHIR, and what is not as it should be. PROFILE: a name, or a file."""
    from node.convert import BadSetting, settings_of
    from node.devices.convert import story
    from node.devices.profiles import chosen

    try:
        settings = settings_of(zone=zone, charset="", facility=facility)
        for line in story(capture.read_bytes(), chosen(name, folder), settings, with_fhir=with_fhir):
            click.echo(line)
    except ProfileProblem as error:
        _refuse(error)
    except (BadSetting, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _refuse(error: ProfileProblem) -> None:
    click.echo(f"NOT READ [{error.code}]: {error}. {error.hint}", err=True)
    sys.exit(1)

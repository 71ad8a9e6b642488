"""`wasl pki`: the commands of a person who runs the authority."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from node.tools.pki import issue_gateway, issue_log_key, issue_node, issue_operator, issue_seal, make_authority, revoke

_FOLDER = click.Path(file_okay=False, path_type=Path)
_CA = click.option("--ca", "dir_ca", type=_FOLDER, default=Path("pki"), show_default=True, help="Folder of the CA.")
_OUT = click.option("--out", "out_dir", type=_FOLDER, help="Where keys and certificates go.  [default: NAME]")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the PKI refuses into one line for the person at the terminal."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@click.group("pki", help="Make a CA, certify nodes and gateways, revoke certificates.")
def pki_group() -> None:
    """Group the commands."""


@pki_group.command("init", help="Make a CA in DIR: ca.pem, ca.key, crl.der.")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--name", default="Wasl CA", show_default=True, help="Name in the CA's certificate.")
def init(folder: Path, name: str) -> None:
    """Run make_authority."""
    with _explained():
        make_authority(folder, name)
    click.echo(f"CA {name!r} is in {folder}. Keep ca.key offline; copy ca.pem and crl.der to every node and gateway.")


@pki_group.command("node", help="Make link and log keys for the node NAME, with certificates.")
@click.argument("name")
@_CA
@_OUT
def node(name: str, dir_ca: Path, out_dir: Path | None) -> None:
    """Run issue_node."""
    with _explained():
        issue_node(dir_ca, out_dir or Path(name), name)
    click.echo(f"Node {name}: link and log keys are in {out_dir or name}.")


@pki_group.command("log-key", help="Make a further log key for the node NAME, to change over to, with its certificate.")
@click.argument("name")
@_CA
@_OUT
def log_key(name: str, dir_ca: Path, out_dir: Path | None) -> None:
    """Run issue_log_key."""
    out_dir = out_dir or Path(f"{name}-log")
    with _explained():
        issue_log_key(dir_ca, out_dir, name)
    click.echo(
        f"Node {name}: a new log key is in {out_dir}. Configure it in [keys], put the files of the old one under [[keys.previous]],"
        " restart the node, and take the old ones out when `wasl status` says so."
    )


@pki_group.command("gateway", help="Make server, cosigning and seal keys for the gateway NAME, with certificates.")
@click.argument("name")
@click.option("--host", "hosts", multiple=True, required=True, help="DNS name or IP that nodes call; repeatable.")
@_CA
@_OUT
def gateway(name: str, hosts: tuple[str, ...], dir_ca: Path, out_dir: Path | None) -> None:
    """Run issue_gateway."""
    with _explained():
        issue_gateway(dir_ca, out_dir or Path(name), name, hosts)
    click.echo(f"Gateway {name}: server, cosigning and seal keys are in {out_dir or name}.")


@pki_group.command("seal", help="Make a further seal key for the gateway NAME: sticks are sealed to it.")
@click.argument("name")
@_CA
@_OUT
def seal(name: str, dir_ca: Path, out_dir: Path | None) -> None:
    """Run issue_seal."""
    with _explained():
        issue_seal(dir_ca, out_dir or Path(name), name)
    click.echo(
        f"Gateway {name}: the seal key is in {out_dir or name}. seal.key stays there, seal.pem goes to every node."
    )


@pki_group.command("operator", help="Make the key with which the person NAME signs releases, with its certificate.")
@click.argument("name")
@_CA
@_OUT
def operator(name: str, dir_ca: Path, out_dir: Path | None) -> None:
    """Run issue_operator."""
    with _explained():
        issue_operator(dir_ca, out_dir or Path(name), name)
    click.echo(f"Operator {name}: the key is in {out_dir or name}. It stays with that person.")


@pki_group.command("revoke", help="Put the certificate in the file CERT on the validity list.")
@click.argument("certificate", metavar="CERT", type=click.Path(dir_okay=False, path_type=Path))
@_CA
def revoke_command(certificate: Path, dir_ca: Path) -> None:
    """Run revoke."""
    with _explained():
        revoke(dir_ca, certificate.read_bytes())
    click.echo(f"Revoked. Copy {dir_ca / 'crl.der'} to every gateway: it takes effect there, not here.")

"""`wasl release`: an operator looks at what a gateway holds of a node, and signs that it may go on. Runs on the operator's own machine."""

import json
import time
from pathlib import Path
from typing import Any

import click
import urllib3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sync.certificates import operator_of, read
from sync.errors import SyncError
from sync.keys import FileSigner
from sync.names import Origin
from sync.release import Release, sign_release

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("release")
@click.argument("node")
@click.option("--api", required=True, help="The gateway's address for consumers, such as https://gateway:8444.")
@click.option("--gateway", required=True, help="The gateway's name.")
@click.option(
    "--token", "token_path", type=_FILE, required=True, help="File with a token that has the right to release."
)
@click.option(
    "--identity",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of operator.pem and operator.key.",
)
@click.option("--ca", type=_FILE, help="The authority's certificate, for an https address.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def release_command(
    node: str, api: str, gateway: str, token_path: Path, identity: Path, ca: Path | None, *, yes: bool
) -> None:
    """Release what the gateway holds of NODE."""
    try:
        _release(node, api, gateway, token_path, identity, ca, yes=yes)
    except (OSError, ValueError, SyncError, urllib3.exceptions.HTTPError) as error:
        raise click.ClickException(str(error)) from error


def _release(
    node: str, api: str, gateway: str, token_path: Path, identity: Path, ca: Path | None, *, yes: bool
) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=30.0, ca_certs=str(ca) if ca else None)
    headers = {"Authorization": f"Bearer {token_path.read_text().strip()}"}
    listed = _answer(pool.request("GET", f"{api}/v1/nodes/{node}/streams", headers=headers))
    newest: dict[Any, Origin] = {}
    for log in listed["streams"]:
        click.echo(f"{log['stream']} epoch {log['epoch']}: {log['size']} records, {log['held']} held")
        newest[log["stream"]] = Origin(node, log["stream"], log["epoch"], log["tag"])
    if not any(log["held"] for log in listed["streams"]) and not yes:
        click.echo("nothing of it is held; a release lets what comes next go on at once")
    if not yes:
        click.confirm(f"Release all that is held of {node}, and what comes under these epochs?", abort=True)
    certificate = (identity / "operator.pem").read_bytes()
    key = load_pem_private_key((identity / "operator.key").read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise click.ClickException("operator.key is not an Ed25519 key")
    signer = FileSigner(operator_of(read(certificate)), key)
    release = Release(gateway=gateway, node=node, at=int(time.time()), logs=tuple(newest.values()))
    body = json.dumps(
        {"statement": sign_release(release, signer).decode(), "certificate": certificate.decode()}
    ).encode()
    sent = {**headers, "Content-Type": "application/json"}
    done = _answer(pool.request("POST", f"{api}/v1/nodes/{node}/release", body=body, headers=sent))
    click.echo(f"released: {done['released']} records")


def _answer(response: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        found = json.loads(response.data)
    except ValueError as error:
        raise click.ClickException(f"status {response.status} without an answer") from error
    if response.status != 200 or not isinstance(found, dict):
        raise click.ClickException(f"refused: {found}")
    return found

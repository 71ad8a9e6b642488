"""Commands that a person can copy from the demo's page into a terminal in the same directory."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from node.tools.demo_folder import NODE, DemoFolder
from node.tools.demo_ports import HOST, Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A command; `key` names the sentence above it. It names the token's file, never the token."""

    key: str
    command: str


def lines(folder: DemoFolder, ports: Ports) -> tuple[Line, ...]:
    """Send, read, verify."""
    wasl = short(Path(sys.executable).with_name("wasl"))
    bearer = f'-H "Authorization: Bearer $(cat {short(folder.token_file)})"'
    stream = f"http://{HOST}:{ports.api}/v1/nodes/{NODE}/streams/his"
    return (
        Line(key="line-send", command=f"{wasl} simulate hl7 --to {HOST}:{ports.feed(0)} --rate 5 --count 10"),
        Line(key="line-read", command=f'curl -s {bearer} "{stream}/records?limit=3"'),
        Line(
            key="line-verify",
            command=f'curl -s {bearer} -o record.evidence "{stream}/records/1/0/evidence" && '
            f"{wasl} verify record.evidence --ca {short(folder.ca)}",
        ),
    )


def short(path: Path) -> str:
    """As a person in the working directory would type it."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))

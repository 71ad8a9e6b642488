"""The independent FHIR validator (npm `fhir`, official R4 definitions) as a function. Absent, the tests that ask it are left out."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[1] / "peers/js/node_modules"
SCRIPT = Path(__file__).with_name("fhir_oracle.cjs")


def is_there() -> bool:
    return shutil.which("node") is not None and (PEERS / "fhir").is_dir()


def need() -> None:
    """With CI=true the validator must be there: .ci/setup test brings it."""
    if not is_there():
        assert os.environ.get("CI") != "true", "peers/js is missing: run .ci/setup test"
        pytest.skip("the independent FHIR validator is not installed (.ci/setup test; npm)")


def errors_of(resources: Sequence[str]) -> list[list[str]]:
    """The validator's errors of each resource, given as JSON text of one line."""
    done = subprocess.run(
        ["node", str(SCRIPT)],
        input="\n".join(resources).encode(),
        capture_output=True,
        env={**os.environ, "NODE_PATH": str(PEERS)},
        check=True,
        timeout=600,
    )
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert len(answers) == len(resources)
    return answers

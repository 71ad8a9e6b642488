"""The process that validates FHIR resources by the models of fhir.resources. Run: `python -m node.feeds.fhir_worker`; bodies in, issues out.

Its parent kills it where it hangs; it ends when its parent does. R4 is judged by R4B's models, as the library has no others (docs/fhir.md).
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from hl7.fhir_types import REWRITTEN, WITHOUT_MODEL
from node.worker_process import confine, serve

TEXT_CHARACTERS_MAX = 200  # of one issue
ISSUES_MAX = 200  # of one body: more than a sender reads
STAND_IN = {"resourceType": "Basic", "code": {"text": "stands for a type without a model"}}

Row = list[str]  # severity, type, text, expression


def validate(body: bytes) -> list[Row]:
    """What the models say of a JSON body. Never raises but MemoryError."""
    try:
        value = _unwrapped(json.loads(body))
        kind = value["resourceType"]
        rows = list(_set_aside(value))
        model = get_fhir_model_class(value["resourceType"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return [["error", "structure", "Not a resource that can be validated", ""]]
    try:
        model.model_validate(value)
    except ValidationError as refusal:
        rows += [
            _row(value, kind, error) for error in refusal.errors(include_url=False, include_input=False)[:ISSUES_MAX]
        ]
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:  # as the library leaves them
        rows.append(["warning", "incomplete", f"Not validated: the models gave up ({type(error).__name__})", ""])
    return rows


def _unwrapped(value: Any) -> Any:
    """The resource inside of the Parameters that $validate may come with."""
    if value["resourceType"] == "Parameters":
        for parameter in value.get("parameter", []):
            if parameter.get("name") == "resource" and "resource" in parameter:
                return parameter["resource"]
    return value


def _set_aside(value: Any) -> Iterator[Row]:
    """Put a stand-in where R4B has no model for a type of R4, so that the rest can be validated; told for each."""
    for holder, key, place in list(_resources(value)):
        kind = holder[key].get("resourceType")
        if kind in WITHOUT_MODEL:
            holder[key] = STAND_IN
            yield ["information", "incomplete", f"Not validated: there is no model of {kind}", place]
    if value["resourceType"] in WITHOUT_MODEL:
        yield [
            "information",
            "incomplete",
            f"Not validated: there is no model of {value['resourceType']}",
            value["resourceType"],
        ]
        value.clear()
        value.update(STAND_IN)


def _resources(value: Any) -> Iterator[tuple[Any, Any, str]]:
    """Where each resource lies that lies in another: its holder, its key in it, and its place."""
    entries, contained = value.get("entry", []), value.get("contained", [])
    if value["resourceType"] == "Bundle" and isinstance(entries, list):
        for at, entry in enumerate(entries):
            if isinstance(entry, dict) and isinstance(entry.get("resource"), dict):
                yield entry, "resource", f"Bundle.entry[{at}].resource"
    if isinstance(contained, list):
        for at, inner in enumerate(contained):
            if isinstance(inner, dict):
                yield contained, at, f"{value['resourceType']}.contained[{at}]"


def _row(value: Any, kind: str, error: Any) -> Row:
    """One finding of the models. Of what R4B wrote anew a finding is no error of an R4 resource."""
    place, inner, at = kind, kind, value
    for step in error["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
        try:
            at = at[step]
        except (KeyError, IndexError, TypeError):
            at = None
        if isinstance(at, dict) and isinstance(at.get("resourceType"), str):
            inner = at["resourceType"]
    severity = "warning" if inner in REWRITTEN else "error"
    issue = (
        "required" if error["type"] == "missing" else "structure" if error["type"] == "extra_forbidden" else "invalid"
    )
    return [severity, issue, str(error["msg"])[:TEXT_CHARACTERS_MAX], place[:TEXT_CHARACTERS_MAX]]


# -- the process ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Bound what this process may do, and serve."""
    confine()
    exhausted = [["warning", "too-costly", "Not validated: it takes too much memory", ""]]
    serve(sys.stdin.buffer, sys.stdout.buffer, validate, exhausted)


if __name__ == "__main__":
    main()

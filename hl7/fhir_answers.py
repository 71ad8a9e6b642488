"""What the FHIR endpoint answers: OperationOutcome for every refusal and warning, a response Bundle for a transaction or batch."""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from hl7 import fhir_xml
from hl7.fhir import Facts
from hl7.fhir_errors import FhirError

ISSUES_MAX = 100  # in one answer: a sender mends the first ones first
RESPONSE: Final = {"transaction": "transaction-response", "batch": "batch-response"}

Resource = dict[str, Any]


class Issue(NamedTuple):
    """One finding: severity, type and text as in OperationOutcome.issue; where, and our catalogue's code where it has one."""

    severity: str
    kind: str
    text: str
    expression: str = ""
    code: str = ""


def issue_of(error: FhirError, severity: str = "error") -> Issue:
    """What an error says in an OperationOutcome."""
    text = f"{error.text}. {error.detail}." if error.detail else f"{error.text}."
    return Issue(severity, error.issue, text, error.expression, error.code)


def outcome(issues: Iterable[Issue]) -> Resource:
    """An OperationOutcome; all is well where there is no issue."""
    found = list(issues)
    shown = [_issue(each) for each in found[:ISSUES_MAX]]
    if len(found) > ISSUES_MAX:
        shown.append(
            _issue(Issue("information", "informational", f"{len(found) - ISSUES_MAX} more issues are not shown."))
        )
    return {"resourceType": "OperationOutcome", "issue": shown or [_issue(GOOD)]}


GOOD: Final = Issue("information", "informational", "All is well.")
KEPT: Final = Issue(
    "information",
    "informational",
    "Kept durably and signed; it is carried to the centre, which carries it out. Its structure was checked, its content was not validated.",
)


def _issue(issue: Issue) -> Resource:
    found: Resource = {"severity": issue.severity, "code": issue.kind, "details": {"text": issue.text}}
    if issue.code:
        found["diagnostics"] = issue.code
    if issue.expression:
        found["expression"] = [issue.expression]
    return found


def resource_id(epoch: int, seq: int, entry: int | None = None) -> str:
    """The id of what a record, or one entry of its Bundle, creates: its position, so that a repeat gets the same."""
    return f"{epoch}-{seq}" if entry is None else f"{epoch}-{seq}-{entry}"


def bundle_response(
    facts: Facts, refused: dict[int, FhirError], *, base: str, epoch: int, seq: int, is_async: bool
) -> Resource:
    """Answer each entry of a transaction or batch, in its order."""
    entries = []
    for place, entry in enumerate(facts.entries):
        error = refused.get(place)
        if error is not None:
            response: Resource = {"status": error.reply, "outcome": outcome([issue_of(error)])}
        elif entry.method == "POST":
            location = f"{base}/{entry.kind}/{resource_id(epoch, seq, place)}"
            response = {"status": "202 Accepted" if is_async else "201 Created", "location": location}
        else:
            response = {"status": "202 Accepted" if is_async else "200 OK"}
        entries.append({"response": response})
    return {"resourceType": "Bundle", "type": RESPONSE[facts.bundle], "entry": entries} if entries else {
        "resourceType": "Bundle", "type": RESPONSE[facts.bundle]
    }  # fmt: skip


def encode(resource: Resource, form: str, *, pretty: bool = False) -> bytes:
    """A resource of ours as JSON or XML."""
    if form == "xml":
        return fhir_xml.write(resource)
    if pretty:
        return json.dumps(resource, ensure_ascii=False, indent=2).encode() + b"\n"
    return json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()

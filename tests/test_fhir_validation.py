"""The process that validates: what it finds, and what the node does where it hangs, dies, or eats memory."""

import asyncio
import select
import sys
import time

import psutil
import pytest

from node.feeds import fhir_validation
from node.feeds.fhir_validation import BODY_BYTES_MAX, Validator
from node.feeds.fhir_worker import validate
from node.worker import WAITING_MAX
from sync.record import Verdict
from tests.fhir_rig import MESSAGE, OBSERVATION, PATIENT, bundle, connect, dumped, fhir_node
from tests.gateway_rig import Realm
from tests.node_rig import wait_until

GOOD, WRONG = dumped(PATIENT), dumped({"resourceType": "Patient", "birthDate": "soon"})
# Workers that are not well, by what comes first in a body: a real one otherwise.
UNWELL = """
import sys, time, node.feeds.fhir_worker as w
def validate(body, honest=w.validate):
    if body[:1] == b"h": time.sleep(3600)
    if body[:1] == b"d": sys.exit(1)
    if body[:1] == b"l": sys.stdout.buffer.write(b"\\xff\\xff\\xff\\xff"); sys.stdout.buffer.flush()
    if body[:1] == b"g": sys.stdout.buffer.write(b"\\0\\0\\0\\2}}"); sys.stdout.buffer.flush()
    if body[:1] == b"m": raise MemoryError
    return honest(body)
w.validate = validate
w.main()
"""


def run(work, command=None):
    async def with_one():
        validator = Validator(command) if command else Validator()
        try:
            return await work(validator)
        finally:
            await validator.stop()

    return asyncio.run(with_one())


@pytest.fixture
def unwell(monkeypatch):
    monkeypatch.setattr(fhir_validation, "VALIDATE_S_MAX", 0.5)
    return (sys.executable, "-c", UNWELL)


@pytest.mark.parametrize(
    ("body", "findings"),
    [
        (PATIENT, []),
        ({"resourceType": "Patient", "birthDate": "soon"}, [("error", "invalid", "Patient.birthDate")]),
        ({"resourceType": "Observation"}, [("error", "required", "Observation.code")]),
        ({"resourceType": "Patient", "colour": 1}, [("error", "structure", "Patient.colour")]),
        (bundle(("POST", "Patient", PATIENT), ("POST", "Observation", {"resourceType": "Observation", "status": "final"})), [("error", "required", "Bundle.entry[1].resource.code")]),
        ({"resourceType": "MedicinalProduct"}, [("information", "incomplete", "MedicinalProduct")]),
        (bundle(("POST", "MedicinalProduct", {"resourceType": "MedicinalProduct"}), ("POST", "Patient", {"resourceType": "Patient", "birthDate": "x"})),
         [("information", "incomplete", "Bundle.entry[0].resource"), ("error", "invalid", "Bundle.entry[1].resource.birthDate")]),
        ({"resourceType": "Patient", "contained": [{"resourceType": "SubstancePolymer"}]}, [("information", "incomplete", "Patient.contained[0]")]),
        ({"resourceType": "Patient", "contained": [{"resourceType": "Nothing"}]}, [("warning", "incomplete", "")]),
        ({"resourceType": "Evidence", "colour": 1, "status": "active"}, "warning"),
        ({**MESSAGE, "entry": [{"resource": {"resourceType": "MessageHeader", "eventUri": "x"}}]}, [("error", "required", "Bundle.entry[0].resource.source")]),
        ([], [("error", "structure", "")]),
        ("x", [("error", "structure", "")]),
        ({"resourceType": "Parameters", "parameter": 7}, "error"),
        ({"resourceType": "Bundle", "type": "batch", "entry": {"a": 1}}, "error"),
    ],
)  # fmt: skip
def test_the_models_findings_have_their_place_and_r4_is_not_blamed_for_r4bs_changes(body, findings):
    found = [(severity, kind, place) for severity, kind, _, place in validate(dumped(body))]
    if isinstance(findings, str):
        assert {severity for severity, _, _ in found} == {findings}
    else:
        assert sorted(found) == sorted(findings)


def test_findings_do_not_repeat_the_senders_values():
    for row in validate(
        dumped(
            {"resourceType": "Patient", "birthDate": "Fatima 900101001", "gender": {"a": "Fatima"}, "name": "Fatima"}
        )
    ):
        assert "Fatima" not in "".join(row)


def test_one_worker_serves_one_after_the_other():
    async def work(validator):
        found = await asyncio.gather(*(validator.validate(body) for body in (GOOD, WRONG, GOOD)))
        return [[issue.expression for issue in issues] for issues in found], validator.killed

    assert run(work) == ([[], ["Patient.birthDate"], []], 0)


@pytest.mark.parametrize(
    "first", [b"h", b"d", b"l", b"g"], ids=["hangs", "dies", "lies-about-its-length", "answers-garbage"]
)
def test_a_worker_that_is_not_well_is_replaced_and_nothing_is_said_of_that_body(unwell, first):
    async def work(validator):
        assert await validator.validate(GOOD) == []
        assert await validator.validate(first) is None
        assert validator.killed == 1
        return [issue.expression for issue in await validator.validate(WRONG)]

    assert run(work, unwell) == ["Patient.birthDate"]


def test_a_body_that_takes_too_much_memory_costs_no_worker(unwell):
    async def work(validator):
        (issue,) = await validator.validate(b"m")
        return issue.severity, issue.kind, validator.killed

    assert run(work, unwell) == ("warning", "too-costly", 0)


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(unwell):
    async def work(validator):
        await validator.validate(GOOD)
        task = asyncio.create_task(validator.validate(b"h"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await validator.validate(GOOD)

    assert run(work, unwell) == []


def test_what_cannot_be_validated_in_time_is_not_waited_for():
    async def work(validator):
        assert await validator.validate(b" " * (BODY_BYTES_MAX + 1)) is None
        many = await asyncio.gather(*(validator.validate(GOOD) for _ in range(WAITING_MAX + 3)))
        return many.count(None)

    assert run(work) == 3


def test_a_worker_that_cannot_start_stops_nobody():
    async def work(validator):
        await validator.start()
        return await validator.validate(GOOD)

    assert run(work, ("/nonexistent",)) is None


# ---- in a node --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


def workers(node):
    return [each for each in psutil.Process(node.process.pid).children() if "node.feeds.fhir_worker" in each.cmdline()]


def test_a_strict_feed_takes_with_a_warning_what_makes_the_validator_hang(realm, tmp_path):
    before = "import node.feeds.fhir_validation as v, node.worker as w; v.VALIDATE_S_MAX = w.START_S_MAX = 0.3\nv.Validator.__init__.__defaults__ = (('sleep', '3600'),)"
    with fhir_node(realm, tmp_path, lines='strictness = "strict"', before=before) as node, connect(node) as http:
        answer = http.call("POST", "/Patient", GOOD)
        assert (answer.status, answer.codes, answer.issues[0]["severity"]) == (201, ["FHR-12"], "warning")
        (seen,) = node.records("app")
        assert (seen.body, seen.header.verdict, seen.refusal) == (GOOD, Verdict.ACCEPTED_WITH_WARNING, "FHR-12")
        assert "FHR-12" in http.call("POST", "/Patient/$validate", GOOD).codes


def test_a_feed_that_is_not_strict_has_no_worker_until_somebody_asks_and_it_ends_with_the_node(realm, tmp_path):
    with fhir_node(realm, tmp_path) as node, connect(node) as http:
        http.call("POST", "/Patient", GOOD)
        assert workers(node) == []
        http.call("POST", "/Patient/$validate", GOOD)
        (worker,) = workers(node)
        node.kill()
        wait_until("the worker's end", lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_samples_are_counted_after_they_were_taken_and_refuse_nothing(realm, tmp_path):
    with fhir_node(realm, tmp_path, lines="validate_one_in = 2") as node, connect(node) as http:
        for n in range(3):
            for body in (dumped({**PATIENT, "id": f"g{n}"}), WRONG):
                assert http.call("POST", "/Patient", body).status == 201
            wait_until("the sample", lambda n=n: node.ask("status")["feeds"]["app"]["validated"] == n + 1)
        status = node.ask("status")["feeds"]["app"]
        assert (status["validated"], status["invalid"], status["accepted"]) == (3, 3, 6)


def test_a_transaction_is_answered_while_the_validator_is_busy(realm, tmp_path):
    before = "import node.feeds.fhir_validation as v, node.worker as w; v.Validator.__init__.__defaults__ = (('sleep', '3600'),); w.START_S_MAX = 1.5"
    with fhir_node(realm, tmp_path, before=before) as node, connect(node) as one, connect(node) as other:
        one.send("POST", "/Patient/$validate", GOOD)
        time.sleep(0.1)
        assert other.call("POST", "", dumped(bundle(("POST", "Observation", OBSERVATION)))).status == 200
        assert not select.select([one.socket], [], [], 0)[0]  # it still waits
        assert one.answer().codes == ["FHR-12"]

"""A FHIR transaction of 100 entries: how long its answer takes, and how much of that is not the commit. Run: python tests/bench/fhir_load.py [TIMES]

Three figures of one run, over one kept connection each, one request at a time, to a node on this machine: the whole answer; the commit alone (the same
bytes as one HL7 frame's worth through the same intake and writer, in this process, on a disk of the same folder); and the difference of the medians.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402  # the line above makes ours importable

from hl7.fhir import JSON  # noqa: E402  # the line above makes it ours
from node.alarms import Alarms  # noqa: E402  # the project is on the path only now
from node.clock import SystemClock  # noqa: E402  # the project is on the path only now
from node.intake import Intake, Request, make_door  # noqa: E402  # the project is on the path only now
from node.keystore import load as load_keys  # noqa: E402  # the project is on the path only now
from node.writer import Writer  # noqa: E402  # the project is on the path only now
from sync.outbox import Outbox  # noqa: E402  # the project is on the path only now
from tests.fhir_rig import bundle, connect, fhir_node, request  # noqa: E402  # the project is on the path only now
from tests.gateway_rig import Realm  # noqa: E402  # the project is on the path only now

ENTRIES = 100
WANTED_MS = 30.0


def transaction(number: int) -> bytes:
    """A hundred Observations as a laboratory sends them, 70 kB."""
    coding = {"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin [Mass/volume] in Blood"}
    entries = [
        ("POST", "Observation", {
            "resourceType": "Observation", "identifier": [{"system": "urn:oid:2.999.2", "value": f"L-{number}-{n}"}], "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [coding], "text": "Hb"}, "subject": {"reference": "Patient/test-900101001", "display": "مريض تجريبي"},
            "effectiveDateTime": "2030-01-01T08:00:00+03:00", "referenceRange": [{"low": {"value": 12}, "high": {"value": 16.0}}],
            "valueQuantity": {"value": 13.50, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
        })
        for n in range(ENTRIES)
    ]  # fmt: skip
    return json.dumps(bundle(*entries), ensure_ascii=False).encode()


def whole_ms(folder: Path, bodies: list[bytes]) -> tuple[list[float], float]:
    """Times from the request's first byte to the answer's last, in a real node; and what its process spent on each, commit included."""
    took = []
    with fhir_node(Realm.make(folder / "realm"), folder / "node") as node, connect(node) as http:
        process = psutil.Process(node.process.pid)
        before = sum(process.cpu_times()[:2])
        for body in bodies:
            data = request("POST", "", body)
            began = time.perf_counter()
            http.write(data)
            answer = http.answer()
            took.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200
            assert answer.body.count(b'"status"') == ENTRIES
        spent = sum(process.cpu_times()[:2]) - before
    return took, spent * 1000 / len(bodies)


def commit_ms(folder: Path, bodies: list[bytes]) -> list[float]:
    """Times of intake, writer and commit alone."""
    from node.config.config import load
    from tests.node_rig import Node

    node = Node(Realm(folder / "realm"), folder / "alone")
    config = load(node.config())
    return asyncio.run(_commits(folder / "alone/outbox.db", load_keys(config).signer, bodies))


async def _commits(path: Path, signer: object, bodies: list[bytes]) -> list[float]:
    loop, clock = asyncio.get_running_loop(), SystemClock()

    def opened() -> Outbox:
        outbox = Outbox(path, signer=signer, random=os.urandom, quota_bytes=1 << 30, recent_max=16384)
        outbox.start_boot(b"b" * 16, clock.now_us())
        outbox.open_streams({"app": "routine"}, "00000000")
        return outbox

    writer = Writer(
        opened, queue_records_max=64, refused=lambda *_: frozenset(), grown=lambda *_: None,
        deliver=lambda result: loop.call_soon_threadsafe(lambda: [done(outcome) for done, outcome in result]),
    )  # fmt: skip
    writer.start()
    await asyncio.wrap_future(writer.opened)
    intake = Intake(clock=clock, writer=writer, alarms=Alarms(clock.now_us))
    door = make_door(facility="BENCH", feed="app", stream="app", content_type=JSON, rejected_per_hour_max=1)
    took = []
    for body in bodies:
        stored = loop.create_future()
        began = time.perf_counter()
        intake.store_typed(
            door, common=door.message, body=body, message_type="Bundle^transaction", control_id="", peer="127.0.0.1",
            request=Request("POST", "", ""), verdict=0, refusal=None, answer=stored.set_result,
        )  # fmt: skip
        await stored
        took.append((time.perf_counter() - began) * 1000)
    writer.stop()
    await asyncio.to_thread(writer.join)
    return took


def main() -> None:
    """Measure and print."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    bodies = [transaction(number) for number in range(times)]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT) as scratch:
        whole, spent = whole_ms(Path(scratch), bodies)
        commit = commit_ms(Path(scratch), bodies)
    spread = [
        f"median {statistics.median(each):.1f} ms, 99th of 100 {sorted(each)[len(each) * 99 // 100]:.1f} ms"
        for each in (whole, commit)
    ]
    own = statistics.median(whole) - statistics.median(commit)
    print(f"{times} transactions of {ENTRIES} entries, {len(bodies[0]) // 1000} kB each")
    print(f"answer: {spread[0]}")
    print(f"commit alone: {spread[1]}")
    print(f"processor time of the node for each, commit and signature included: {spent:.1f} ms")
    print(
        f"our own beyond the commit: {own:.1f} ms at the median, wanted below {WANTED_MS:.0f}; structure checked, models deferred"
    )


if __name__ == "__main__":
    main()

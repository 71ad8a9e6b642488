"""What is mutated: what the devices of all shipped profiles send, and what our simulators send; the same at every start."""

import json
import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import cast

from hl7.devices.profile import Profile
from node.devices.profiles import find, names, text_of
from node.tools.simulate_astm import Analyzer, Cable
from node.tools.simulate_folder import table
from node.tools.simulate_lines import DEVICES, FAULTS, reports
from node.tools.simulate_mqtt import Monitor
from node.tools.simulate_pcd01 import report
from node.tools.simulate_poct1a import Device
from tests.device_captures import BODIES, framed

NOW = datetime(2026, 11, 23, tzinfo=UTC)
EACH = 6  # of what a simulator makes
RESULTS_SHORT = 2
TOML_CODES = 3  # of a profile's map: the rest is of the same form, and would only cost time

Stock = list[tuple[Profile, bytes]]


class _Analyzer(Analyzer):
    def _stamp(self) -> bytes:
        return NOW.strftime("%Y%m%d%H%M%S").encode()


def _short(pairs: Stock) -> Stock:
    """Each body once whole, and four times with its first results only: small inputs reach more code in the same time."""
    made: Stock = []
    for profile, body in pairs:
        kept, results = [], 0
        for line in body.splitlines(keepends=True):
            is_result = line.startswith((b"R|", b"R@", b"OBX|"))
            results += is_result
            if not is_result or results <= RESULTS_SHORT:
                kept.append(line)
        made += [(profile, body), *[(profile, b"".join(kept))] * 4]
    return made


@cache
def _of_profiles(language: str) -> Stock:
    found = ((find(name), body) for name, body in BODIES.items())
    return [(profile, body) for profile, body in found if profile.language == language]


@cache
def astm() -> Stock:
    """Bodies of records."""
    analyzer = _Analyzer(cast("Cable", None), random.Random(1))
    analyzer.dice = random.Random(1)
    blood = [b"".join(analyzer.measure(number)) for number in range(EACH)]
    asked = b"".join(analyzer._query("S-1"))
    order = b"H|\\^&\rP|1|T1\rO|1|S1||^^^WBC\\^^^HGB|R||||||N||||||||||||||Q\rL|1|N\r"
    long = b"H|\\^&\rP|1\rO|1|S1\rR|1|^^^WBC|5\rC|1|L|" + b"x" * 700 + b"\rL|1|N\r"
    return _short([*_of_profiles("astm"), *((find("sysmex-xn"), body) for body in (*blood, asked, order, long))])


@cache
def hl7() -> Stock:
    """Messages of analyzers (LAW) and of gateways of monitors (PCD-01)."""
    monitor, dice = find("monitor-pcd01"), random.Random(1)
    beds = [
        (monitor, report(number, bed=number, now=NOW, dice=dice, fault=fault))
        for number, fault in enumerate(("", "", "no-number", "unknown-unit", "spike"))
    ]
    law = (
        "MSH|^~\\&|AN|LAB|LIS|LAB|20261123080000+0300||OUL^R22^OUL_R22|7|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-29^IHE\r"
        "SPM|1|S-1&LIS||BLD|||||||P||||||20261123\rSAC|||S-1\rOBR|1|||718-7^Hb^LN\rORC|OK||||CM\r"
        "OBX|1|NM|718-7^Hb^LN||13.2|g/dL^^UCUM|12-16|N|||F|||20261123080000|||AN^1||20261123080000\rTCD|1\rNTE|1||تجريبي\r"
        "OBX|2|CE|882-1^ABO^LN||A^A^L|||||F\rSPM|2|QC-1||SER|||||||Q\rOBR|2|||718-7^Hb^LN\rOBX|1|NM|718-7||<0.1|g/dL|||||P\r"
    ).encode()
    return _short([*_of_profiles("hl7"), *beds, (find("hl7-analyzer"), law)])


@cache
def poct1a() -> Stock:
    """Documents of a conversation, and whole ones."""
    device, profile = Device("SIM-0001", random.Random(1)), find("abbott-istat")
    device.measure(11)
    hello = device.document("HEL.R01", '<DEV><DEV.device_id V="SIM-0001"/><DEV.vendor_id V="WASL"/></DEV>')[1]
    status = device.document("DST.R01", '<DST><DST.new_observations_qty V="11"/></DST>')[1]
    results = [device.document("OBS.R01", body.decode())[1] for body in device.results[:2] + device.results[9:]]
    end = device.document("EOT.R01", '<EOT><EOT.topic_cd V="OBS"/></EOT>')[1]
    undated = [re.sub(rb"\d{4}-\d\d-\d\dT[0-9:]{8}", b"2026-11-23T08:00:00", each) for each in results]
    talk = [re.sub(rb"\d{4}-\d\d-\d\dT[0-9:]{8}", b"2026-11-23T08:00:00", each) for each in (hello, status, end)]
    whole = b"\r\n".join((*talk[:2], *undated, talk[2]))
    return [*_of_profiles("poct1a"), *((profile, each) for each in (*talk, *undated, whole))]


@cache
def lines() -> Stock:
    """Prints of devices, faults among them."""
    profile = find("urine-strip-lines")
    prints = [next(reports(name, seed=seed, faults=(), share=0)).data for name in DEVICES for seed in range(2)]
    faulty = [
        next(reports(name, seed=1, faults=(fault,), share=1)).data[:300] for name in DEVICES for fault in FAULTS[:4]
    ]
    counter = (re.compile(r"(?P<sample>T\d+);(?P<code>WBC);(?P<value>[^;]*).*"),)
    checked = replace(profile, link={"ends": "block", "check": "xor-hex"}, patterns=counter)
    blocks = [(checked, next(reports("counter", seed=seed, faults=(), share=0)).data) for seed in range(4)]
    return [*_of_profiles("lines"), *((profile, each) for each in (*prints, *faulty)), *blocks]


@cache
def telemetry() -> Stock:
    """Payloads of topics: a gateway's own JSON, SenML (RFC 8428's examples), Sparkplug B as JSON."""
    own, monitor = find("vitals-mqtt"), Monitor(bed=3, dice=random.Random(1))
    senml, plug = replace(own, language="senml"), replace(own, language="sparkplug")
    packs = (
        b'[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.320067464e+09,"bu":"%RH","v":20},{"u":"lon","v":24.30621},{"n":"hr","u":"/min","v":72,"t":-5}]',
        '[{"bn":"bed3/","bt":1795342530.5,"n":"hr","u":"/min","v":72},{"n":"door","vb":true},{"n":"who","vs":"مريم"},{"n":"x","vd":"aGk","s":0.5,"ut":9}]'.encode(),
    )
    metrics = (
        b'{"timestamp":1795342530500,"metrics":[{"name":"hr","alias":1,"timestamp":1795342530400,"dataType":"Int32","value":72,"properties":{"engUnit":{"type":"String","value":"/min"}}},'
        b'{"name":"temp","value":null,"is_null":true},{"alias":7,"value":1}],"seq":4}'
    )
    return [
        *_of_profiles("json"), *((own, monitor.reading(ts_ms=1795342530500 + at)) for at in range(EACH)), *((senml, each) for each in packs), (plug, metrics),
    ]  # fmt: skip


@cache
def modbus() -> Stock:
    """Polls as their records hold them."""
    profile = find("fridge-modbus")
    (body,) = (body for _, body in _of_profiles("modbus"))
    made = []
    for kind, order in (
        ("float32", "big"),
        ("float32", "little"),
        ("int32", "big"),
        ("sfloat", "big"),
        ("uint16", "big"),
    ):
        points = tuple(replace(each, type=kind, order=order) for each in profile.points)
        document = json.loads(body) | {
            "registers": [16512, 0, 65535, 32768, 32704, 1, 2047],
            "late_us": 9,
            "quality": "late",
        }
        made.append((replace(profile, points=points), json.dumps(document).encode()))
    return [(profile, body), *made]  # fmt: skip


@cache
def tables() -> Stock:
    """Files of rows."""
    dice = random.Random(1)
    return [*_of_profiles("csv"), *((find("qpcr-csv"), table(dice, number)) for number in range(2))]


def framed_bodies() -> list[bytes]:
    """Sessions on an ASTM line, without the host's answers: in frames of several sizes."""
    return [framed(body, size=size).replace(b"\x06", b"") for _, body in astm() for size in (40, 240)]


@cache
def profiles() -> list[bytes]:
    """Every shipped profile, its longest maps cut."""
    made = []
    for name, _ in names():
        kept, seen, table_name = [], 0, ""
        for line in text_of(name).splitlines():
            if line.startswith("["):
                table_name, seen = line, 0
            seen += 1
            if not line.startswith("#") and (table_name not in {"[codes]", "[units]"} or seen <= TOML_CODES + 1):
                kept.append(line)
        made.append("\n".join(kept).encode())
    return made

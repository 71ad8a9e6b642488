"""Listeners that other people wrote, each in an environment of its own: python-hl7's, and simple-hl7 where npm has put it."""

import os
import shutil
import subprocess
import time

import pytest

from tests.destination_rig import EAGER, destination, serve, to
from tests.node_rig import ROOT, Node, Realm, free_port, message, running, wait_until

PYTHON_HL7 = """
import asyncio, sys, hl7.mllp as m
async def cb(r, w):
    try:
        while True:
            got = await r.readmessage()
            print(got.segment("MSH")[10], flush=True)
            w.writemessage(got.create_ack()); await w.drain()
    except asyncio.IncompleteReadError:
        w.close()
async def main():
    s = await m.start_hl7_server(cb, "127.0.0.1", int(sys.argv[1]), limit=2**24)
    await s.serve_forever()
asyncio.run(main())
"""
SIMPLE_HL7 = """
const a = require('simple-hl7').tcp();
a.use((q, r, n) => { console.log(q.msg.log().split('|')[9]); n(); });
a.use((q, r) => r.end());
a.start(Number(process.argv[2]));
"""


def has_simple_hl7() -> bool:
    return shutil.which("node") is not None and (ROOT / "peers/js/node_modules/simple-hl7").exists()


@pytest.mark.parametrize(
    "peer",
    ["python-hl7", pytest.param("simple-hl7", marks=pytest.mark.skipif(not has_simple_hl7(), reason="peers/js has no simple-hl7"))],
)  # fmt: skip
def test_a_listener_that_others_wrote_takes_every_message_in_order_also_after_it_was_killed(tmp_path, peer):
    port, said = free_port(), tmp_path / "said"
    script = tmp_path / ("peer.py" if peer == "python-hl7" else "peer.cjs")
    script.write_text(PYTHON_HL7 if peer == "python-hl7" else SIMPLE_HL7)
    command = [str(ROOT / "peers/py/bin/python")] if peer == "python-hl7" else ["node"]

    def start() -> subprocess.Popen:
        with said.open("ab") as out:
            environment = {**os.environ, "NODE_PATH": str(ROOT / "peers/js/node_modules")}
            return subprocess.Popen([*command, str(script), str(port)], cwd=tmp_path, env=environment, stdout=out)

    def heard() -> list[str]:
        return said.read_text().split() if said.exists() else []

    process = start()
    try:
        with running(serve(Node(Realm.make(tmp_path / "realm"), tmp_path / "n"), to(port)), before=EAGER) as node:
            node.send(*[message(f"A-{n}", name="Layla Test") for n in range(20)])
            wait_until("twenty", lambda: "A-19" in heard())
            process.kill()
            process.wait()
            node.send(*[message(f"B-{n}", name="Layla Test") for n in range(20)])
            wait_until("trouble", lambda: destination(node)["state"] == "retrying")
            time.sleep(0.2)  # some more tries
            process = start()
            wait_until("forty", lambda: "B-19" in heard())
            wait_until("the last reply", lambda: destination(node)["taken"] == 40)
    finally:
        process.kill()
        process.wait()
    assert list(dict.fromkeys(heard())) == [f"{name}-{n}" for name in "AB" for n in range(20)]
    assert len(heard()) <= 41  # the one that was under way

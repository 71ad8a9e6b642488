"""As the kernel saw the unmodified processes: nothing that acknowledges leaves before the sync of what it acknowledges has returned."""

import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from tests.gateway_rig import TinyNode
from tests.node_rig import ROOT, Centre, Node, Reply, message, running, wait_until
from tests.sim_trace import WATCH, early_answers, early_replies, stop_watched, why_not
from tests.warm_start import calm

CONNECTIONS = 4
EACH = 60  # messages, or batches, of each connection
WINDOW = 5  # messages under way on each: while one group is written, replies of the one before leave
MARK = re.compile(r"T\d-\d{5}")
REPLY = re.compile(r"MSA\|AA\|(T\d-\d{5})")


@pytest.fixture
def watch(tmp_path):
    """The command under which a process is watched, and where what it did is written."""
    reason = why_not()
    if reason:
        if os.environ.get("CI") and shutil.which("strace") is None:
            pytest.fail(reason)
        pytest.skip(reason)
    return (*WATCH, "-o", str(tmp_path / "trace")), tmp_path / "trace"


def together(work, count=CONNECTIONS):
    """Do it on each connection at once; what failed in a thread fails here."""
    failed = []

    def run(n):
        try:
            work(n)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


# -- the node ----------------------------------------------------------------------------------------------------------
def send_in_windows(node, n):
    with node.mllp() as mllp:
        sent = [message(f"T{n}-{at:05}") for at in range(EACH)]
        mllp.send(*sent[:WINDOW])
        for at in range(EACH):
            reply = Reply(mllp.reply())
            assert (reply.code, reply.control_id) == ("AA", b"T%d-%05d" % (n, at))
            mllp.send(*sent[at + WINDOW : at + WINDOW + 1])


def test_no_reply_of_the_node_leaves_before_the_sync_of_its_message_whatever_the_other_connections_do(
    realm, tmp_path, watch
):
    wrapper, trace = watch
    node = Node(realm, tmp_path / "node", link="connect_s_max = 2\nanswer_s_max = 5")
    with running(node, cold=True, wrapper=wrapper):
        together(lambda n: send_in_windows(node, n))
        stop_watched(node.process)
    text = trace.read_text(errors="replace")
    assert early_replies(text, MARK, REPLY) == (CONNECTIONS * EACH, [])
    # the same trace, had every sync returned a moment later, or not been waited for
    assert early_replies(later_syncs(text), MARK, REPLY)[1]
    without = "\n".join(line for line in text.splitlines() if "sync" not in line)
    assert len(early_replies(without, MARK, REPLY)[1]) == CONNECTIONS * EACH


def later_syncs(text):
    """The trace with each end of a sync moved behind the next line that leaves the process."""
    held, lines = [], []
    for line in text.splitlines():
        if re.search(r"sync\(.*= 0$|sync resumed>.*= 0$", line):
            held.append(line)
        else:
            lines.append(line)
            if "<TCP" in line and held:
                lines += held
                held = []
    return "\n".join(lines)


# -- the gateway -------------------------------------------------------------------------------------------------------
def test_no_receipt_of_the_gateway_leaves_before_the_sync_of_its_batch_whatever_the_other_connections_do(
    realm, tmp_path, watch
):
    wrapper, trace = watch
    gateway = Centre(realm, tmp_path / "gateway")
    ports = {}
    with ExitStack() as stack:
        command = [*wrapper, sys.executable, "-m", "gateway", "--config", str(gateway.config())]
        gateway.process = subprocess.Popen(
            command, cwd=ROOT, env=calm(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(lambda: gateway.process.poll() is None and stop_watched(gateway.process))
        wait_until("a gateway that is up", gateway.is_up)
        nodes = [TinyNode(realm, gateway, f"clinic-{n}", tmp_path / f"outbox-{n}.sqlite") for n in range(CONNECTIONS)]
        for n, node in enumerate(nodes):
            stack.callback(node.close)
            node.add([f"MSH|^~\\&|LAB|TEST|||20300101||ORU^R01|T{n}-{at:05}|P|2.5\r".encode() for at in range(EACH)])
            assert node.session().status == 200
            connection = node.pool._get_conn()
            ports[connection.sock.getsockname()[1]] = f"T{n}-"
            node.pool._put_conn(connection)

        def put_each(n):
            for at in range(EACH):
                assert nodes[n].put(at, at + 1).status == 200

        together(put_each)
    text = trace.read_text(errors="replace")
    assert early_answers(text, MARK, ports) == (CONNECTIONS * EACH, [])
    without = "\n".join(line for line in text.splitlines() if "sync" not in line)
    assert len(early_answers(without, MARK, ports)[1]) == CONNECTIONS * EACH


# -- the reader --------------------------------------------------------------------------------------------------------
def write(n, thread=1):
    return f'{thread} pwrite64(5</d/o.db-wal>, "\\0\\5T0-{n:05}|P|2.5", 4096, 32) = 4096'


def reply(n, thread=2):
    return f'{thread} sendto(7<TCP:[127.0.0.1:2575->127.0.0.1:4000]>, "\\vMSA|AA|T0-{n:05}\\r", 20, 0, NULL, 0) = 20'


SYNC, FAILED = "1 fdatasync(5</d/o.db-wal>) = 0", "1 fdatasync(5</d/o.db-wal>) = -1 EIO (Input/output error)"
BEGUN, ENDED = "1 fdatasync(5</d/o.db-wal> <unfinished ...>", "1 <... fdatasync resumed>) = 0"
OTHER = "1 fdatasync(6</d/o.db>) = 0"


@pytest.mark.parametrize(
    ("lines", "early"),
    [
        ([write(1), SYNC, reply(1)], 0),
        ([write(1), BEGUN, ENDED, reply(1)], 0),
        ([write(1), SYNC, write(2), reply(1), SYNC, reply(2)], 0),  # the WAL is not clean, but what is answered is synced
        ([write(1), reply(1), SYNC], 1),
        ([reply(1), write(1), SYNC], 1),
        ([write(1), BEGUN, reply(1), ENDED], 1),
        ([write(1), BEGUN, write(2), ENDED, reply(1), reply(2)], 1),  # a sync says nothing of what was written after it began
        ([write(1), FAILED, reply(1)], 1),
        ([write(1), OTHER, reply(1)], 1),
    ],
)  # fmt: skip
def test_reader_of_the_trace_notices_a_reply_before_its_sync(lines, early):
    replies, found = early_replies("\n".join(lines), MARK, REPLY)
    assert len(found) == early
    assert replies == sum("MSA" in line for line in lines)


def read(thread=2):
    return f'{thread} recvfrom(7<TCP:[127.0.0.1:8443->127.0.0.1:4000]>, "\\27\\3\\3", 9, 0, NULL, NULL) = 9'


def answer(thread=2):
    return f'{thread} sendto(7<TCP:[127.0.0.1:8443->127.0.0.1:4000]>, "\\27\\3\\3", 9, 0, NULL, 0) = 9'


@pytest.mark.parametrize(
    ("lines", "early"),
    [
        ([answer(), read(), write(1), SYNC, answer(), read(), write(2), SYNC, answer()], 0),
        ([read(), write(1), answer(), SYNC], 1),
        ([read(), answer(), write(1), SYNC], 1),
        ([read(), write(1), BEGUN, answer(), ENDED], 1),
        ([read(), write(1), SYNC, answer(), read(), answer(), write(2), SYNC], 1),
    ],
)
def test_reader_of_the_trace_notices_an_answer_before_its_sync_where_it_cannot_be_read(lines, early):
    answers, found = early_answers("\n".join(lines), MARK, {4000: "T0-"})
    assert len(found) == early
    assert answers == len({mark for line in lines for mark in MARK.findall(line)})

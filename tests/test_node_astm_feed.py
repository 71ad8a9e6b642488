"""An ASTM feed in a real node: acknowledged means durable; repetitions, cuts and kills leave each result once."""

import time

import pytest

from sync.record import Kind
from tests.astm_rig import ACK, ENQ, EOT, NAK, STREAM, AstmFeed, Instrument, records, result
from tests.node_rig import Node, running, wait_until


@pytest.fixture
def node(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[AstmFeed(STREAM)])) as node:
        yield node


def bodies(node, kind=Kind.MESSAGE):
    return [seen.body for seen in node.records(STREAM) if seen.header.kind is kind]


def test_a_result_becomes_one_record_with_the_bytes_that_came(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(result(), size=20)
        wait_until("record", lambda: bodies(node))
    (seen,) = node.records(STREAM)
    assert (seen.body, seen.header.kind, seen.header.message_type) == (result(), Kind.MESSAGE, "R")
    assert seen.header.content_type == "application/astm-e1394"

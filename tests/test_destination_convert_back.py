"""FHIR at a system that listens for HL7 v2: what a destination makes of resources."""

import pytest

from hl7.convert.to_v2 import from_json
from hl7.message import Message
from node.config.destinations import MllpOut
from node.destinations.plug import ER7, FHIR_JSON, Outgoing
from node.destinations.wanted import selection_of
from tests.fhir_sink_rig import REPORT, VALUE, bundle, outgoing
from tests.test_convert_back import ORDER, PATIENT


def back(body: bytes, place: int = 41, **keys) -> list[Outgoing]:
    """The messages that a record becomes, as a destination's thread reads them."""
    listener = MllpOut.model_validate(
        {"name": "lis", "kind": "mllp", "address": "127.0.0.1:1", "streams": ("fhir",), "convert": "v2", **keys}
    )
    header = _header()
    origin = outgoing(b"", place).origin
    assert origin is not None
    return selection_of(listener).parts(header, _record(body), origin)


def _header():
    from tests.test_destination_config import header

    return header(content_type=FHIR_JSON, message_type="Bundle^transaction")


def _record(body):
    from tests.test_destination_config import record

    return record(body)


def test_an_order_and_a_report_of_one_record_become_two_messages_of_it_with_ids_of_their_own():
    made = back(bundle(PATIENT, ORDER, REPORT, VALUE))
    assert [(part.part, part.message_type) for part in made] == [(0, "OML^O21^OML_O21"), (1, "ORU^R01^ORU_R01")]
    assert all(part.content_type == ER7 for part in made)
    again = back(bundle(PATIENT, ORDER, REPORT, VALUE))
    assert [part.body for part in again] == [part.body for part in made]
    other = back(bundle(PATIENT, ORDER, REPORT, VALUE), 42)  # the same resources in a later record are news
    assert not {part.control_id for part in made} & {part.control_id for part in other}
    assert len({part.control_id for part in made}) == 2


def test_a_report_without_a_time_bears_that_of_its_record():
    (made,) = back(bundle(PATIENT, REPORT, VALUE))
    assert Message(made.body).get("MSH-7") == b"20261122093000.123+0000"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bundle(PATIENT), "type"), (b"{", "content"), (b"[]", "content"),
        (bundle(PATIENT, ORDER | {"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}}), "test"),
    ],
    ids=["no order", "no JSON", "no resource", "test"],
)  # fmt: skip
def test_a_fhir_record_that_becomes_no_message_stays_as_it_is_with_its_reason(body, reason):
    (part,) = back(body)
    assert (part.body, part.content_type, part.unconverted) == (body, FHIR_JSON, reason)


def test_a_message_made_of_a_test_says_so_itself():
    labelled = ORDER | {"meta": {"security": [{"code": "HTEST"}]}}
    made = from_json(bundle(PATIENT, labelled))
    assert (made.is_test, Message(made.messages[0]).get("MSH-11")) == (True, b"T")


def test_messages_are_written_in_the_destination_s_own_character_set():
    (part,) = back(bundle(PATIENT, ORDER), charset="iso8859_6")
    assert "الحربي".encode("iso8859_6") in part.body
    assert Message(part.body).get("MSH-18") == b"8859/6"


def test_a_destination_that_does_not_convert_gets_fhir_as_it_came():
    (part,) = back(bundle(PATIENT, ORDER), convert="none")
    assert (part.content_type, part.unconverted) == (FHIR_JSON, "")

"""What is said to a POCT1-A device, document by document."""

from hl7.devices.poct1a import read_message
from hl7.devices.poct1a_conversation import Conversation, Manners
from tests.poct1a_rig import HELLO, RESULT, document, kind_of, status

NOW = "2030-01-01T08:00:00+00:00"


def heard(*documents, is_taken=True, **manners):
    """What is said to each, as (type, code or command)."""
    conversation, said = Conversation(Manners(**manners)), []
    for raw in documents:
        message = read_message(raw)
        conversation.hear(message)
        replies = conversation.replies(message, is_taken=is_taken, now=NOW)
        said.append([kind_of(each) for each in replies])
    return said


END = document("EOT.R01", "9", '<EOT><EOT.topic_cd V="OBS"/></EOT>')


def test_what_waits_in_a_device_is_fetched_and_the_conversation_ended():
    assert heard(HELLO, status(), RESULT, END) == [
        [("ACK", "AA", "1")],
        [("ACK", "AA", "2"), ("REQ", "ROBS")],
        [("ACK", "AA", "3")],
        [("END", "NRM")],
    ]


def test_a_device_with_nothing_new_is_let_go_at_once():
    assert heard(HELLO, status("0", "0"))[-1] == [("ACK", "AA", "2"), ("END", "NRM")]


def test_a_device_that_does_not_count_is_asked():
    assert heard(HELLO, document("DST.R01", "2", "<DST/>"))[-1] == [("ACK", "AA", "2"), ("REQ", "ROBS")]


def test_events_are_fetched_after_the_results():
    assert heard(HELLO, status("2", "3"), END, END)[1:] == [
        [("ACK", "AA", "2"), ("REQ", "ROBS")], [("REQ", "RDEV")], [("END", "NRM")],
    ]  # fmt: skip
    assert heard(HELLO, status("2", "3"), END, asks_events=False)[-1] == [("END", "NRM")]


def test_in_continuous_mode_the_device_stays_and_each_result_is_acknowledged():
    said = heard(
        HELLO,
        status(),
        RESULT,
        END,
        RESULT,
        document("KPA.R01", "10"),
        status(),
        document("END.R01", "11"),
        continuous=True,
    )
    assert said[3:] == [
        [("DTV", "START_CONTINUOUS")], [("ACK", "AA", "3")], [("ACK", "AA", "10")], [("ACK", "AA", "2")], [("ACK", "AA", "11")],
    ]  # fmt: skip


def test_a_topic_that_the_device_leaves_is_over():
    assert heard(HELLO, status(), document("ESC.R01", "5"))[-1] == [("END", "NRM")]


def test_end_of_topic_is_acknowledged_only_where_the_device_wants_it():
    assert heard(HELLO, status(), END, acknowledges_end_of_topic=True)[-1][0] == ("ACK", "AA", "9")


def test_an_acknowledgement_is_never_acknowledged():
    assert heard(document("ACK.R01", "4", '<ACK><ACK.type_cd V="AA"/></ACK>')) == [[]]


def test_what_could_not_be_stored_is_answered_with_an_error_and_nothing_more_is_asked_for():
    assert heard(status(), is_taken=False) == [[("ACK", "AE", "2")]]


def test_an_unknown_type_is_kept_and_acknowledged():
    message = read_message(document("DTV.NOVA_REQ.R02", "8"))
    assert message.type == "DTV.NOVA_REQ.R02"
    assert Conversation(Manners()).hear(message).is_record
    assert heard(document("DTV.NOVA_REQ.R02", "8")) == [[("ACK", "AA", "8")]]


def test_a_control_id_is_written_back_as_xml():
    (said,) = heard(document("OBS.R01", "&quot;&lt;1"))
    assert said == [("ACK", "AA", '"<1')]


def test_of_what_is_no_xml_inside_the_id_is_still_read():
    message = read_message(document("OBS.R01", "3", "<SVC>&undefined;</SVC>"))
    assert (message.control_id, message.type, message.is_xml) == ("3", "OBS.R01", False)

"""What can be wrong with a frame or a message: each class is one entry of the catalogue and carries the reply's codes.

A class is named in a verdict by its `code`; it is raised only where a value cannot be given back (`NotEr7`).
"""

from typing import ClassVar, Final, Literal

Fault = Literal["source", "site", "node", "centre"]
Reply = Literal["AA", "AE", "AR", "none"]


class Hl7Error(Exception):
    """An error of a clinical language: whose fault it is, and what to answer.

    `code`: stable name. `fault`: who has to act. `reply`: MSA-1, or none where nobody waits for one.
    `error_code`: HL7 table 0357. `text`: for the sender, in ERR-8 or MSA-3; never holds message content.
    `hint`: for a technician. `retryable`: the same bytes may pass later.
    """

    code: ClassVar[str] = "HL7-00"
    fault: ClassVar[Fault] = "source"
    reply: ClassVar[Reply] = "AE"
    error_code: ClassVar[str] = "207"
    text: ClassVar[str] = "Message not understood"
    hint: ClassVar[str] = "An error of a clinical language without an entry of its own."
    retryable: ClassVar[bool] = False


class NotEr7(Hl7Error):
    """The bytes have no usable MSH: stored as they came, acknowledged with a warning, parked downstream."""

    code = "HL7-01"
    reply = "AA"
    error_code = "100"
    text = "No usable MSH segment; stored as received"
    hint = "The sender's frames do not begin with an MSH segment. Check what this port's sender really sends."


class UndecodableText(Hl7Error):
    """The bytes cannot be text in the declared character set: stored, acknowledged with a warning."""

    code = "HL7-02"
    reply = "AA"
    error_code = "102"
    text = "Text does not decode in the declared character set; stored as received"
    hint = "Correct MSH-18 in the sending system, or set the character set of this feed."


class UnknownCharacterSet(Hl7Error):
    """MSH-18 names nothing that table 0211 and this node know; the text was read as UTF-8."""

    code = "HL7-03"
    reply = "AA"
    error_code = "103"
    text = "Character set in MSH-18 is not known; read as UTF-8"
    hint = "Use a name of HL7 table 0211 in MSH-18, such as UNICODE UTF-8, or set the character set of this feed."


class SenderNotAllowed(Hl7Error):
    """MSH-3 and MSH-4 are not among the feed's senders."""

    code = "HL7-04"
    fault = "site"
    reply = "AR"
    error_code = "204"
    text = "Sender is not allowed on this feed"
    hint = "Add the sending application and facility (MSH-3, MSH-4) to the feed's senders, or correct the sender."


class TypeNotAllowed(Hl7Error):
    """MSH-9.1 is not among the feed's message types."""

    code = "HL7-05"
    fault = "site"
    reply = "AR"
    error_code = "200"
    text = "Message type is not accepted on this feed"
    hint = "Add the message type (MSH-9) to the feed's types, or stop the sender from sending it here."


class EventNotAllowed(Hl7Error):
    """MSH-9.1 is among the feed's message types, but not with this event."""

    code = "HL7-06"
    fault = "site"
    reply = "AR"
    error_code = "201"
    text = "Trigger event is not accepted on this feed"
    hint = "Add the trigger event (MSH-9.2) to the feed's types, or stop the sender from sending it here."


class ProcessingIdNotAllowed(Hl7Error):
    """MSH-11 is not among the feed's processing ids: a test system on a production feed, or the reverse."""

    code = "HL7-07"
    fault = "site"
    reply = "AR"
    error_code = "202"
    text = "Processing id is not accepted on this feed"
    hint = "The sender may be a test system. Correct MSH-11 in the sending system, or the feed's processing ids."


class VersionNotAllowed(Hl7Error):
    """MSH-12 is not among the feed's versions."""

    code = "HL7-08"
    fault = "site"
    reply = "AR"
    error_code = "203"
    text = "Version is not accepted on this feed"
    hint = "Correct MSH-12 in the sending system, or add the version to the feed's versions."


class RequiredFieldMissing(Hl7Error):
    """A field that the feed requires is absent, empty or null."""

    code = "HL7-09"
    error_code = "101"
    text = "Required field is missing"
    hint = "The sender leaves out a field that this feed requires; the reply's ERR-2 (or ERR-1) names it."


class SequenceNumberMissing(Hl7Error):
    """The feed follows the sequence number protocol, and MSH-13 holds no number."""

    code = "HL7-10"
    error_code = "101"
    text = "Sequence number is missing"
    hint = "This feed follows the sequence number protocol. Switch it on in the sending system, or let the feed ignore MSH-13."


class SequenceGap(Hl7Error):
    """MSH-13 is beyond the number that is expected: messages between were not sent here."""

    code = "HL7-11"
    error_code = "100"
    text = "Sequence number is not the expected one: messages before it are missing"
    hint = "The reply's MSA-4 names the number that is expected; the sender has to go on from there. If it cannot, restart its link with number 0."


class SequenceRepeated(Hl7Error):
    """MSH-13 is a number that was taken before, with other bytes or long ago."""

    code = "HL7-12"
    error_code = "205"
    text = "Sequence number was used before for another message"
    hint = "The sender counts anew or lost its count: the reply's MSA-4 names the number that is expected. Restart its link with number 0, or with -1."


class PartOfBatchRefused(Hl7Error):
    """A rule of the feed refuses some messages of a batch; the others are taken. `location` counts those that are refused."""

    code = "HL7-13"
    reply = "AA"
    text = "Some messages of this batch are refused"
    hint = "Each message of the batch has its own reply, which names what is wrong with it. The record's detail counts the refused ones from 1."


class BatchTooLong(Hl7Error):
    """A batch holds more messages than can be answered one by one."""

    code = "HL7-14"
    error_code = "104"
    text = "Batch holds too many messages"
    hint = "Have the sender divide its batches; 4,096 messages in one are taken."


class NotWanted(Hl7Error):
    """A filter of the feed says that such messages are not wanted here."""

    code = "HL7-15"
    fault = "site"
    reply = "AR"
    error_code = "200"
    text = "Such messages are not wanted on this feed"
    hint = "A route of this feed without a stream refuses such messages. Change the feed's routes, or stop the sender from sending them here."


class XmlUnread(Hl7Error):
    """XML that is not well-formed at its beginning, or has a DOCTYPE: stored as it came, and not looked into."""

    code = "HL7-16"
    reply = "AA"
    error_code = "100"
    text = "XML that cannot be read, or has a DOCTYPE; stored as received"
    hint = "The sender's XML is not well-formed, or has a DOCTYPE, which HL7's documents never have. It is kept as it came; look at what it really sends."


class EnvelopeUnreadable(Hl7Error):
    """An X12 interchange whose ISA or IEA is not as the standard has it: stored as it came."""

    code = "HL7-17"
    reply = "AA"
    error_code = "100"
    text = "Interchange envelope (ISA, IEA) is not as X12 has it; stored as received"
    hint = "The sender's X12 interchange has an ISA of wrong widths, or its IEA is missing or has another number. It is kept as it came; correct the sender."


class SignatureNotGood(Hl7Error):
    """The feed demands a signature, and there is none that is valid and of a known signer, over the whole."""

    code = "HL7-18"
    error_code = "207"
    text = "A valid signature of a known signer over the whole is required here"
    hint = "This feed takes only what a known authority signed. The record's detail says what was found; compare the signer with `authorities`."


class FrameOversized(Hl7Error):
    """A frame is longer than the feed allows; only its length, hash and first bytes are kept."""

    code = "MLP-01"
    error_code = "104"
    text = "Message is longer than this feed accepts"
    hint = "Raise the feed's limit, or have the sender leave out embedded documents."


class FrameWithoutEnd(Hl7Error):
    """A new message began inside a frame whose end block (FS CR) is missing."""

    code = "MLP-02"
    error_code = "100"
    text = "End of message is missing"
    hint = "The sender does not end its frames with FS CR. Correct its MLLP settings; it has to send again."
    retryable = True


class ClosedInsideFrame(Hl7Error):
    """The connection closed inside a frame; nobody is left to answer, and the sender repeats."""

    code = "MLP-03"
    reply = "none"
    error_code = "100"
    text = "Connection closed inside a message"
    hint = "The sender or the network closed the connection too early. If it repeats, check cabling and timeouts."
    retryable = True


CATALOGUE: Final[tuple[type[Hl7Error], ...]] = (
    NotEr7,
    UndecodableText,
    UnknownCharacterSet,
    SenderNotAllowed,
    TypeNotAllowed,
    EventNotAllowed,
    ProcessingIdNotAllowed,
    VersionNotAllowed,
    RequiredFieldMissing,
    SequenceNumberMissing,
    SequenceGap,
    SequenceRepeated,
    PartOfBatchRefused,
    BatchTooLong,
    NotWanted,
    XmlUnread,
    EnvelopeUnreadable,
    SignatureNotGood,
    FrameOversized,
    FrameWithoutEnd,
    ClosedInsideFrame,
)
"""Every entry, in the order of the codes."""

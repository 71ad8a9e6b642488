"""What can be wrong on an ASTM line: each class is one entry of the catalogue and carries what the instrument is told."""

from hl7.devices.errors import DeviceError


class AstmError(DeviceError):
    """An error of an ASTM line without an entry of its own."""

    code = "AST-00"
    hint = "An error of an ASTM line without an entry of its own."


class BadFrame(AstmError):
    """A frame's sum, number or form is wrong."""

    code = "AST-01"
    reply = "NAK"
    hint = "A frame came damaged or out of turn and was refused; the instrument sends it again. Where this repeats, look at cable, baud rate and parity."
    retryable = True


class FrameTooLong(AstmError):
    """A frame's text is longer than the feed takes."""

    code = "AST-02"
    reply = "NAK"
    hint = "A frame is longer than this feed takes. Raise frame_text_bytes_max of the feed, or set shorter frames at the instrument."


class MessageTooLong(AstmError):
    """A message is longer than the feed takes."""

    code = "AST-03"
    reply = "NAK"
    hint = "A message is longer than this feed takes. Raise message_mb_max of the feed, or have the instrument send fewer results at once."


class TransferCutOff(AstmError):
    """The instrument ended a transfer, or fell silent, before its message was whole."""

    code = "AST-04"
    hint = "A transfer was cut off: what came of it is kept, marked incomplete. See that the instrument sends the result again."
    retryable = True


class SenderNotRegistered(AstmError):
    """The name in H-5 is not among the feed's senders."""

    code = "AST-05"
    hint = "The instrument's name in its header record is not among this feed's senders. Add it, or connect the instrument to its own feed."


class NoHeaderRecord(AstmError):
    """A message does not begin with a header record."""

    code = "AST-06"
    hint = "A message came without a header record (H) at its beginning; it is stored as it came. Check the instrument's host protocol setting."


class NotReadable(AstmError):
    """A record's delimiters are not usable."""

    code = "AST-07"
    hint = "The header record names no usable delimiters; the message is stored as it came. Check the instrument's host protocol setting."

"""What can be wrong with what a point-of-care device sends (CLSI POCT1-A)."""

from hl7.devices.errors import DeviceError


class DocumentTooLong(DeviceError):
    """A document is longer than the feed takes: what came of it is recorded, the connection closed."""

    code = "POC-01"
    hint = "The device sent a document longer than `message_mb_max`. Raise the limit, or ask the vendor what it sends."


class DocumentType(DeviceError):
    """A document brings a DOCTYPE: entities are not the sender's to define."""

    code = "POC-02"
    hint = "The device sent XML with a DOCTYPE, which is never read. Ask the vendor to leave it out."


class NotXml(DeviceError):
    """What came is no document: nothing divides it from what follows, so the connection is closed and the device sends it again."""

    code = "POC-03"
    hint = "The device on this port does not send POCT1-A. Check its protocol setting and its port."


class CutOffInside(DeviceError):
    """The connection ended inside a document."""

    code = "POC-04"
    hint = "The device's connection broke inside a document. It sends the results again; if it goes on, check cable or radio."


class NoControlId(DeviceError):
    """A document names no HDR.control_id, so it cannot be acknowledged; it is stored as it came."""

    code = "POC-05"
    hint = "The device sends documents without HDR.control_id, which cannot be acknowledged. Ask the vendor."


class NotAPoctDocument(DeviceError):
    """Good bounds, and inside no XML that can be read: stored as it came, and acknowledged, or it would hold up what comes after it."""

    code = "POC-06"
    hint = "The device sent XML with a fault in it. The record holds it as it came; show it to the vendor."

"""What can be wrong with a SOAP request: each class is one entry of the catalogue and carries the fault's code and the HTTP status."""

from typing import ClassVar, Literal

Fault = Literal["source", "site", "node", "centre"]
Side = Literal["Sender", "Receiver", "VersionMismatch", "MustUnderstand"]


class SoapError(Exception):
    """An error of the SOAP endpoint: whose fault it is, and what to answer.

    `reply`: HTTP status in SOAP 1.2; in 1.1 a fault is always 500 (SOAP 1.1, 6.2), unless HTTP itself is what is wrong. `side`: the fault's code
    by its name in 1.2. `subcode`: of WS-Addressing, or empty. `text`: for the sender, never message content. `detail`: the place, or a name.
    """

    code: ClassVar[str] = "SOP-00"
    fault: ClassVar[Fault] = "source"
    reply: ClassVar[str] = "400"
    side: ClassVar[Side] = "Sender"
    subcode: ClassVar[str] = ""
    text: ClassVar[str] = "Request not understood"
    hint: ClassVar[str] = "An error of the SOAP endpoint without an entry of its own."
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.text)
        self.detail = detail


# ---- of the content: the refusal is recorded -------------------------------------------------------------------------------------
class EnvelopeUnreadable(SoapError):
    """The envelope is no XML, has a DOCTYPE, or is beyond the limits."""

    code = "SOP-01"
    text = "The envelope cannot be read"
    hint = "The sender's SOAP envelope is not well-formed XML, or has a DOCTYPE, which SOAP forbids. The fault says where it breaks."


class NotAnEnvelope(SoapError):
    """The root is no envelope of SOAP 1.1 or 1.2, or the envelope has no body."""

    code = "SOP-02"
    side = "VersionMismatch"
    reply = "500"  # SOAP 1.2 part 2, table 20
    text = "Not an envelope of SOAP 1.1 or 1.2"
    hint = "What the sender posts here is no SOAP 1.1 or 1.2 envelope. Check the address that it was given, and what it really sends."


class HeaderNotUnderstood(SoapError):
    """A header block that must be understood is not."""

    code = "SOP-03"
    side = "MustUnderstand"
    reply = "500"  # SOAP 1.2 part 2, table 20
    text = "A header that must be understood is not understood here"
    hint = "The sender insists on a SOAP header. If the centre reads it, add its namespace to the feed's `understands`; else have the sender leave it out."


class BadAddressing(SoapError):
    """WS-Addressing headers that contradict each other, or ask for an answer elsewhere."""

    code = "SOP-04"
    subcode = "InvalidAddressingHeader"
    text = "The WS-Addressing headers cannot be followed"
    hint = "The sender's WS-Addressing headers stand twice, differ from SOAPAction, or ask for the answer at another address. The fault says which."


class ActionNotAllowed(SoapError):
    """The action is not among the feed's."""

    code = "SOP-05"
    fault = "site"
    subcode = "ActionNotSupported"
    text = "This action is not accepted here"
    hint = "Add the action to the feed's actions, or stop the sender from calling it here."


class BadPackage(SoapError):
    """The multipart package cannot be taken apart."""

    code = "SOP-06"
    text = "The MIME package cannot be read"
    hint = "The sender's multipart message has a wrong boundary, no end, or no root part. The fault says which; correct the sender."


class PartMissing(SoapError):
    """The envelope names a part that is not there, or is there twice."""

    code = "SOP-07"
    text = "A part that the envelope names is not there once"
    hint = "The sender's envelope points to an attachment which the package does not hold, or holds twice. Without it the document would be lost."


class WrongBody(SoapError):
    """The body is not what the action says."""

    code = "SOP-08"
    text = "The body is not what the action says"
    hint = "The sender's action is that of Provide and Register Document Set-b, and its body is something else. Correct the sender."


class SignatureDemanded(SoapError):
    """The feed demands a signature, and there is none that is valid and of a known signer, over the body."""

    code = "SOP-09"
    text = "A valid signature of a known signer over the body is required here"
    hint = "This feed takes only what a known authority signed. The record's detail says what was found; compare the signer with `authorities`."


# ---- of the request: told, logged and counted, no record ------------------------------------------------------------------------
class NotThisMedium(SoapError):
    """Neither of SOAP's media types, or a character set that cannot be read."""

    code = "SOP-10"
    reply = "415"
    text = "Content-Type must be text/xml, application/soap+xml or multipart/related"
    hint = "The sender has to say text/xml (SOAP 1.1), application/soap+xml (SOAP 1.2) or multipart/related (MTOM, attachments) as its Content-Type."


class NotAPost(SoapError):
    """A method that SOAP does not use here."""

    code = "SOP-11"
    reply = "405"
    text = "SOAP is sent with POST"
    hint = "Something reads or searches at the address of a SOAP feed. It takes POST alone; the description of the service is the centre's."

"""What can be wrong with a FHIR request: each class is one entry of the catalogue and carries the HTTP status and the issue's type."""

from typing import ClassVar, Literal

Fault = Literal["source", "site", "node", "centre"]


class FhirError(Exception):
    """An error of the FHIR endpoint: whose fault it is, and what to answer.

    `reply`: HTTP status, or none where nobody waits. `issue`: code of OperationOutcome.issue (http://hl7.org/fhir/R4/valueset-issue-type.html).
    `text`: for the sender, never message content. `expression`: where in the resource, a FHIRPath; element names only.
    """

    code: ClassVar[str] = "FHR-00"
    fault: ClassVar[Fault] = "source"
    reply: ClassVar[str] = "400"
    issue: ClassVar[str] = "invalid"
    text: ClassVar[str] = "Request not understood"
    hint: ClassVar[str] = "An error of the FHIR endpoint without an entry of its own."
    retryable: ClassVar[bool] = False

    def __init__(self, expression: str = "", detail: str = "") -> None:
        super().__init__(detail or self.text)
        self.expression = expression
        self.detail = detail

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.reply)


# ---- of the content: the refusal is recorded, or, where the feed is lenient, the message is taken with a warning --------------
class Unreadable(FhirError):
    """The body is not JSON, or not XML, or not UTF-8."""

    code = "FHR-01"
    issue = "structure"
    text = "The body cannot be read"
    hint = (
        "The sender's body is not well-formed JSON or XML in UTF-8. The answer names line and column where it breaks."
    )


class DuplicateKey(FhirError):
    """A JSON object names a member twice: two readers may see two different resources."""

    code = "FHR-02"
    issue = "structure"
    text = "A JSON object has a member twice"
    hint = "The sender writes a JSON member twice in one object, and readers differ in which they take. The answer names the element."


class NotANumber(FhirError):
    """NaN or Infinity: no JSON (RFC 8259, 6), though many a writer makes them."""

    code = "FHR-03"
    issue = "value"
    text = "NaN and Infinity are no JSON"
    hint = "The sender writes NaN or Infinity where it has no value. It has to leave the element out, or say why with dataAbsentReason."


class TooDeep(FhirError):
    """Nested deeper than any resource is."""

    code = "FHR-04"
    issue = "too-costly"
    text = "Nested too deeply"
    hint = "The sender nests elements deeper than any FHIR resource does. Look at what it really sends."


class NotAResource(FhirError):
    """No object with a resourceType of R4."""

    code = "FHR-05"
    reply = "422"
    issue = "structure"
    text = "Not a resource of FHIR R4"
    hint = "The body is not a FHIR R4 resource. Check the sender's FHIR version and what it sends to this address."


class WrongAddress(FhirError):
    """The resource is of another type, or has another id, than the address says."""

    code = "FHR-06"
    issue = "invariant"
    text = "Type or id of the resource and the address differ"
    hint = "The sender puts a resource to an address of another type or id. It has to correct one of the two."


class BadBundle(FhirError):
    """A Bundle without what its type asks for."""

    code = "FHR-07"
    issue = "invariant"
    text = "The Bundle lacks what its type asks for"
    hint = "The sender's Bundle is not complete: type, a request for each entry, or a first entry as documents and messages have it."


class NotCarried(FhirError):
    """A transaction holds an interaction that this node does not carry."""

    code = "FHR-08"
    reply = "422"
    issue = "not-supported"
    text = "This interaction is not carried in a Bundle"
    hint = "The sender's Bundle reads, patches, deletes or calls an operation. The node carries creates and updates; the others belong at the centre."


class TypeNotAllowed(FhirError):
    """The resource's type is not among the feed's."""

    code = "FHR-09"
    fault = "site"
    reply = "422"
    issue = "business-rule"
    text = "This resource type is not accepted here"
    hint = "Add the resource type to the feed's types, or stop the sender from sending it here."


class Invalid(FhirError):
    """The models of FHIR refuse it, and the feed is strict."""

    code = "FHR-10"
    reply = "422"
    issue = "invalid"
    text = "The resource is not valid"
    hint = "The resource breaks FHIR's own rules, and this feed is strict. The answer names each element; or set the feed's strictness to normal."


class TooManyValues(FhirError):
    """More values, or more entries of a Bundle, than a clinic's day has."""

    code = "FHR-11"
    reply = "413"
    issue = "too-costly"
    text = "Too many values or entries"
    hint = "The sender packs too much into one Bundle. It has to send several."


class NotValidated(FhirError):
    """The feed is strict, and the validator gave no answer in time: taken with a warning."""

    code = "FHR-12"
    fault = "node"
    reply = "201"
    issue = "incomplete"
    text = "Not validated: the validator gave no answer in time"
    hint = "A resource was taken without being validated, since the validator did not answer in time. Nothing is lost; the centre validates again."


class SignatureDemanded(FhirError):
    """The feed demands a signature, and there is none that is valid and of a known signer, over the whole."""

    code = "FHR-23"
    reply = "422"
    issue = "security"
    text = "A valid signature of a known signer over the whole is required here"
    hint = "This feed takes only Bundles that a known authority signed. The record's detail says what was found; compare the signer with `authorities`."


CONTENT = (
    Unreadable,
    DuplicateKey,
    NotANumber,
    TooDeep,
    NotAResource,
    WrongAddress,
    BadBundle,
    NotCarried,
    TypeNotAllowed,
    Invalid,
    TooManyValues,
    SignatureDemanded,
)
"""What a body can be refused for: such a refusal is a record."""


# ---- of a body that never was whole -------------------------------------------------------------------------------------------
class BodyOversized(FhirError):
    """The body is longer than the feed allows."""

    code = "FHR-13"
    reply = "413"
    issue = "too-long"
    text = "The body is longer than this feed accepts"
    hint = "Raise the feed's limit (body_mb_max), or have the sender leave out embedded documents."


class ClosedInsideBody(FhirError):
    """The connection closed inside a body: nobody is left to answer."""

    code = "FHR-14"
    reply = "none"
    text = "Connection closed inside a body"
    hint = "The sender or the network closed the connection too early. If it repeats, check cabling and timeouts."
    retryable = True


class BodySlow(FhirError):
    """The body stopped coming, or others waited too long for its end."""

    code = "FHR-15"
    reply = "408"
    issue = "timeout"
    text = "The body did not come in time"
    hint = "A sender began a request and did not finish it. If it repeats, check the line to it."
    retryable = True


# ---- of the request: told, logged and counted, no record ----------------------------------------------------------------------
class NoAccess(FhirError):
    """No token, or one that is not known or not good any more."""

    code = "FHR-16"
    fault = "site"
    reply = "401"
    issue = "login"
    text = "A bearer token of this feed is needed"
    hint = "A sender came without a token of this feed. Give it one, or let it ask for one with its key (SMART backend services)."


class NotThisMedium(FhirError):
    """Neither JSON nor XML, another character set, or another FHIR version."""

    code = "FHR-17"
    reply = "415"
    issue = "not-supported"
    text = "Content-Type must be application/fhir+json or application/fhir+xml, in UTF-8, of FHIR R4"
    hint = "The sender has to say application/fhir+json or application/fhir+xml as its Content-Type."


class NotAcceptable(FhirError):
    """The client takes neither JSON nor XML."""

    code = "FHR-18"
    reply = "406"
    issue = "not-supported"
    text = "Answers are application/fhir+json or application/fhir+xml"
    hint = "The client asks for an answer in another form than JSON or XML."


class NotARepository(FhirError):
    """An interaction of FHIR that a node which only carries cannot serve."""

    code = "FHR-19"
    reply = "405"
    issue = "not-supported"
    text = "This node takes resources and carries them to the centre; it holds none to read, search, patch or delete"
    hint = "A client reads or searches here. The node carries what is sent and serves nothing: let it ask the centre's FHIR server."

    def __init__(self, allow: str = "") -> None:
        super().__init__()
        self.allow = allow


class UnknownPath(FhirError):
    """No such address."""

    code = "FHR-20"
    reply = "404"
    issue = "not-found"
    text = "There is nothing at this address"
    hint = "The client calls an address that does not exist here. Its base address must end as this feed's does."


class BadHeader(FhirError):
    """A header or parameter that cannot be kept or understood."""

    code = "FHR-21"
    issue = "value"
    text = "A header or parameter cannot be understood"
    hint = "The sender's conditional headers or parameters are not as FHIR writes them. The answer names which."


class BadAssertion(FhirError):
    """SMART backend services: the client's assertion is not good."""

    code = "FHR-22"
    fault = "site"
    issue = "security"
    text = "The client's assertion is not good"
    hint = "A client's signed assertion was refused. Compare its id, its key and the audience with the feed's; look at both clocks."

"""Which replies a sender asks for: none but the classic one, or those of enhanced mode (HL7 2.9, 2.8.2 and 2.8.3; table 0155).

Original mode: MSH-15 and MSH-16 are empty; one reply, AA, AE or AR. Enhanced mode: an accept reply (CA, CE, CR) when the message is safe or
refused, under the condition of MSH-15; and an application reply (AA, AE, AR) when it was processed, under that of MSH-16.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

from hl7.check import Outcome, Verdict
from hl7.message import Route

Setting = Literal["as-asked", "original", "enhanced"]
"""`as-asked`: enhanced where MSH-15 and MSH-16 are both valued, as the standard wants it. `original`, `enhanced`: whatever they say."""

_NULL: Final = b'""'
_CONDITIONS: Final = frozenset((b"AL", b"NE", b"ER", b"SU"))
_GOOD: Final = frozenset(("AA", "CA"))
_OF_HEADER: Final = frozenset(("200", "201", "202", "203"))  # HL7 table 0357: what MSH-9, 11 and 12 are refused for


class Asked(NamedTuple):
    """Conditions of table 0155, both empty in original mode: AL always, NE never, ER on error or reject, SU on success."""

    accept: bytes = b""
    application: bytes = b""

    @property
    def is_enhanced(self) -> bool:
        """Whether the sender waits for an accept reply and perhaps, later, for an application reply."""
        return bool(self.accept)

    @property
    def is_silent_on_error(self) -> bool:
        """Whether the sender wants to hear nothing where its message is not taken: it must not be lost then."""
        return self.accept in {b"NE", b"SU"}


ORIGINAL: Final = Asked()


@lru_cache(maxsize=64)  # of two fields with five sane values each
def _asked(accept: bytes, application: bytes, setting: Setting) -> Asked:
    valued = [value for value in (accept, application) if value not in {b"", _NULL}]
    if setting == "original" or (setting == "as-asked" and len(valued) < 2):
        return ORIGINAL
    # what is no condition is not taken for "never": a sender that waits is answered
    return Asked(
        accept if accept in _CONDITIONS else b"AL",
        application if application in _CONDITIONS else b"NE",
    )


def asked(route: Route, setting: Setting = "as-asked") -> Asked:
    """Give what a message's sender asks for."""
    if not (route.accept_ack or route.application_ack) and setting != "enhanced":  # most do not
        return ORIGINAL
    return _asked(route.accept_ack[:8], route.application_ack[:8], setting)


def accept_code(verdict: Verdict) -> str:
    """CA, CR where MSH-9, MSH-11 or MSH-12 is refused, CE for any other reason (HL7 2.8.3.1)."""
    if verdict.outcome != Outcome.REJECTED:
        return "CA"
    return "CR" if verdict.error_code in _OF_HEADER else "CE"


def is_wanted(condition: bytes, ack_code: str) -> bool:
    """Tell whether a reply with this MSA-1 is to be sent under a condition of table 0155."""
    if condition in {b"AL", b"NE"}:
        return condition == b"AL"
    return (ack_code in _GOOD) == (condition == b"SU")


def reply_codes(wanted: Asked, verdict: Verdict, *, answers_application: bool) -> tuple[str, str]:
    """MSA-1 of the accept and of the application reply; empty where there is none to send.

    An application reply follows an accepted message, or tells of a refusal where no accept reply did. It is only sent where
    `answers_application`: what the node has done with a message is to keep it, not to process it.
    """
    accept = accept_code(verdict)
    if not is_wanted(wanted.accept, accept):
        accept = ""
    application = verdict.ack_code if answers_application else ""
    if application and (accept in {"CE", "CR"} or not is_wanted(wanted.application, application)):
        application = ""
    return accept, application

"""What can go wrong in the node itself, beyond what the rooms below know, and the alarms it raises."""

from typing import ClassVar, Final, Literal

from sync.errors import NoRoom

Fault = Literal["source", "site", "node", "centre", "link"]

# how the core ends where it must not go on (sysexits.h): the supervisor starts it again
EXIT_THREAD = 70  # EX_SOFTWARE: a thread died
EXIT_STORE = 74  # EX_IOERR: a commit failed


class NodeError(Exception):
    """A failure of the node: every subclass carries its catalogue entry."""

    code: ClassVar[str] = "NOD-00"
    fault: ClassVar[Fault] = "node"
    reply: ClassVar[str] = "none"
    hint: ClassVar[str] = "Restart the node; if it comes back, call the centre."
    retryable: ClassVar[bool] = False


class QueueFull(NodeError):
    """More messages arrived than the disk stores: the bounded queue before the writer is full."""

    code = "NOD-01"
    reply = "AR"
    hint = "Messages arrive faster than the disk can store them. The senders repeat by themselves; if it goes on, look at the disk."
    retryable = True


class FeedPaused(NoRoom):
    """The disk is filling, and this feed can wait: it takes nothing until there is room. Also an alarm."""

    code = "NOD-34"
    fault = "site"
    reply = "AR"
    hint = "The disk is filling, so bulk feeds are paused: their sources keep what is not taken and send it again. Restore the link so that the queue drains."
    retryable = True


class KeyMismatch(NodeError):
    """A key does not belong to its certificate, or the certificate names another node."""

    code = "NOD-02"
    fault = "site"
    hint = "Key, certificate and node name must belong together. Import the files that the centre issued for this node."


class TwoOwners(NodeError):
    """Two installed distributions own one of our package names (python-hl7 overwrites hl7/)."""

    code = "NOD-03"
    fault = "site"
    hint = "Install the node in a virtual environment of its own; remove the other package from it."


class CannotListen(NodeError):
    """An address of the configuration cannot be listened on."""

    code = "NOD-04"
    fault = "site"
    hint = (
        "Another program has this port, or the address is not of this machine. Correct `listen` in the configuration."
    )


class CoreSilent(NodeError):
    """The node's core does not answer on its control socket."""

    code = "NOD-05"
    hint = "The core is not running. Its messages are safe on disk; senders repeat until it is back."
    retryable = True


class DataFolderTaken(NodeError):
    """Another core runs on this data folder."""

    code = "NOD-06"
    fault = "site"
    hint = "Another core of this node is running on the same data folder. Stop it first."


class NoSuchStream(NodeError):
    """An order names a stream that this node does not send."""

    code = "NOD-35"
    fault = "site"
    hint = "No stream of this name is sent to a gateway here. `wasl status --json` names those that there are."


class RepairUnfinished(NodeError):
    """A repair was interrupted while it put its outbox in place."""

    code = "NOD-32"
    fault = "site"
    hint = (
        "A repair of this data folder was interrupted. Nothing is lost: run `wasl repair` again, then start the core."
    )


class StickFull(NodeError):
    """The stick has no room for all that waits; what is on it is whole."""

    code = "NOD-20"
    fault = "site"
    hint = "The stick is full. Carry it as it is, bring it back with the receipts, and export again: it goes on from there."
    retryable = True


class StickUnreadable(NodeError):
    """The folder for the stick cannot be read or written."""

    code = "NOD-21"
    fault = "site"
    hint = "The stick is not there, is write-protected, or is failing. Try another one; nothing was lost."


class SealCertificateBad(NodeError):
    """The gateway's seal certificate cannot be used: unreadable, expired, another gateway's, or not of our authority."""

    code = "NOD-22"
    fault = "site"
    hint = "The stick would have to be sealed, and the seal certificate is not good. Nothing was written: ask the centre for its present `seal.pem`."


class ClientKeysBad(NodeError):
    """A FHIR client's keys cannot be read."""

    code = "NOD-40"
    fault = "site"
    hint = "The file with a FHIR client's public keys is not there or holds no JWK set. Ask the client's vendor for it and correct `jwks`."


class AuthoritiesBad(NodeError):
    """The folder of authorities for signatures holds no certificate, or a file that is none."""

    code = "NOD-43"
    fault = "site"
    hint = "The folder `authorities` of [signatures] must hold certificates, as *.pem, one at least; their lists of revoked ones are *.crl. Correct it."


class LinkError(NodeError):
    """A failure of the path to the gateway: waited for and tried again, never a verdict."""

    code = "LNK-00"
    fault: ClassVar[Fault] = "link"
    hint = "The gateway was not reached. Records wait safely here."
    retryable = True


class GatewayUnreachable(LinkError):
    """No TCP connection: refused, no route, or nobody answers."""

    code = "LNK-01"
    hint = "No connection to the gateway. Check cable, router and the ministry's line; records wait safely here."


class NameUnknown(LinkError):
    """The gateway's host name does not resolve."""

    code = "LNK-02"
    hint = "The gateway's name is not known to the DNS here. Check the DNS server of this network."


class TlsFailed(LinkError):
    """TLS did not come about: a certificate was refused by one side, or something between breaks it."""

    code = "LNK-03"
    fault = "site"
    hint = "The gateway was reached, but one side refused the other's certificate. Check certificates, their dates, and the clock."


class WrongGateway(LinkError):
    """The server's certificate is of our authority but does not name the configured gateway."""

    code = "LNK-04"
    fault = "site"
    hint = "Another machine answers at the gateway's address. Nothing was sent to it; check `url` and `name` in the configuration."


class NoAnswer(LinkError):
    """The connection stands, but no answer came in time, or it broke off."""

    code = "LNK-05"
    hint = "The gateway does not answer in time. A bad line, or a busy centre; the node tries again by itself."


class AnswerUnreadable(LinkError):
    """An answer that is no verdict: wrong status, no code, too long, or garbage."""

    code = "LNK-06"
    fault = "centre"
    hint = "Something answers that is not the gateway, or the gateway is ill. Nothing was deleted; call the centre if it goes on."


class CertificateRefused(LinkError):
    """The gateway answers, and takes this node's certificates for none of its authority, expired, or another node's."""

    code = "LNK-07"
    fault = "site"
    hint = "The gateway refuses this node's certificates: expired, another node's, or not issued by its authority itself. Check the files of [keys]."


ALARMS: Final[dict[str, tuple[Fault, str]]] = {
    "NOD-07": (
        "site",
        "The clock follows no time server: times in records are unsure. Give chrony or systemd-timesyncd one that it reaches; `timedatectl` shows it.",
    ),
    "NOD-10": (
        "site",
        "Little room is left on the disk: new messages are refused, bulk first and critical last, until the queue drains.",
    ),
    "NOD-11": (
        "source",
        "A source sends more refused messages than are recorded one by one; the rest is only counted.",
    ),
    "NOD-12": ("site", "A machine that is not on the feed's list tried to connect."),
    "NOD-13": ("source", "A feed has as many connections as it may have; a further one was closed."),
    "NOD-14": ("source", "A source does not read its acknowledgements; its connection was closed."),
    "NOD-15": ("source", "A source stayed silent inside a message or between messages; its connection was closed."),
    "NOD-16": (
        "source",
        "A source's sequence numbers do not go on where they ended: messages are missing, or it counts anew. Restart its link at the source.",
    ),
    "NOD-41": (
        "node",
        "The process that verifies signatures gave no answer in time and was started again. Nothing is lost; `wasl record` verifies again.",
    ),
    "NOD-52": (
        "node",
        "The process that checks samples by message profile gave no answer in time and was started again. Nothing is lost; `wasl status` counts them.",
    ),
    "NOD-42": (
        "source",
        "A signature that a source brought is not valid, or of nobody whom the site knows. `wasl record` says more; compare with `authorities`.",
    ),
    "NOD-31": (
        "site",
        "This disk is older than the node had been: it was restored from a backup. Messages are taken as always; the centre holds them until released.",
    ),
    "NOD-33": (
        "site",
        "The change of the log key is receipted in every stream. Take the old key out of [[keys.previous]] and lock its file away.",
    ),
    "NOD-36": (
        "site",
        "A person ordered that this stream goes on under a further epoch. Nothing is lost; the centre holds it until a person releases it.",
    ),
    "NOD-30": ("site", "The disk is filling. Restore the link so that the queue drains, before messages are refused."),
    "LNK-11": (
        "link",
        "Large packets vanish on the way to the gateway. Set `mss_max` to 40 less than the size that passes, and tell the carrier.",
    ),
    "LNK-10": (
        "link",
        "Packets of a lane reach the gateway with another mark than they left with: the carrier does not carry its class. Ask the carrier.",
    ),
}
"""Events that are raised without an exception: code, whose fault, what to do."""

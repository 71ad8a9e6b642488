"""What can go wrong at the gateway, and whose fault it is; the same shape as the sync's catalogue."""

from typing import ClassVar

from sync.errors import Fault


class GatewayError(Exception):
    """A failure of the gateway: every subclass carries its catalogue entry."""

    code: ClassVar[str] = "GWY-00"
    fault: ClassVar[Fault] = "centre"
    reply: ClassVar[str] = "none"
    hint: ClassVar[str] = "Look at the gateway's log; the nodes keep what they hold and try again."
    retryable: ClassVar[bool] = False


class BadSetup(GatewayError):
    """Keys, certificates and configured names that do not belong together: the gateway refuses to start."""

    code = "GWY-01"
    hint = (
        "Check the files that the configuration names: issue the gateway's certificates again with `wasl pki gateway`."
    )


class Busy(GatewayError):
    """More calls or bytes than the gateway holds at once: nothing was stored, the node comes again."""

    code = "GWY-02"
    reply = "503"
    hint = "Nothing to do if it passes within minutes; else the ledger's disk is too slow for its nodes."
    retryable = True


class LedgerLost(GatewayError):
    """A COMMIT or the disk failed: what is stored is unknown, so nothing is answered and the process ends."""

    code = "GWY-03"
    hint = "Check the ledger's disk. After the restart the nodes send again what was not receipted."


class SwapLost(GatewayError):
    """A head row was not what was judged: somebody else moved it. Nothing of this call was stored."""

    code = "GWY-04"
    reply = "503"
    retryable = True


class NoEvidence(GatewayError):
    """A record that cannot be proved now: no receipt yet, its header is lost, or no validity list is in force."""

    code = "GWY-05"
    reply = "409"
    hint = "Configure the authority's validity list, or ask again after the node's next batch."


class GatewayFull(GatewayError):
    """The ledger's disk is full, noticed before the commit: nothing was stored."""

    code = "GWY-06"
    reply = "503"
    hint = "Give the ledger's disk more room; the nodes keep everything until then."
    retryable = True


class UploadGap(GatewayError):
    """A part that does not continue what is here of its upload: the node goes on from `size`."""

    code = "GWY-20"
    reply = "409"
    retryable = True

    def __init__(self, size: int) -> None:
        super().__init__(f"the upload has {size} bytes")
        self.size = size


class UploadQuota(GatewayError):
    """A node's uploads are as many or as long as they may be: it comes again."""

    code = "GWY-21"
    reply = "503"
    hint = "Nothing to do if it passes; else a node gives up large bodies half way: look at its link."
    retryable = True


class TooManyStreams(GatewayError):
    """A stick brings a further stream of a node that has as many as are taken: nothing of this batch was stored."""

    code = "GWY-07"
    fault = "site"
    hint = "Is the node's configuration right? A gateway takes a thousand streams of one node."


ALARMS: dict[str, tuple[Fault, str]] = {
    "GWY-10": (
        "centre",
        "A node came that was cloned, or restored from a backup. Its records are kept and receipted, but held: find out why, then release them.",
    ),
    "GWY-11": (
        "site",
        "An older start of a node calls again: two copies of it are alive. Find and stop one of them.",
    ),
    "GWY-12": (
        "centre",
        "A node sends other records than it sent before at the same position (fork). Nothing was overwritten; it goes on under a further epoch, which is held.",
    ),
    "GWY-13": (
        "centre",
        "The validity list is out of date or unreadable. Nodes are judged by the last good one: fetch a new list from the authority.",
    ),
    "GWY-14": (
        "centre",
        "The ledger's disk is full: batches are refused, the nodes keep everything. Give it more room.",
    ),
    "GWY-15": ("site", "A node declares more streams than the gateway takes of one node. Is its configuration right?"),
    "GWY-17": (
        "centre",
        "A node goes on under a further epoch: it was restored, copied or forked. What it sends is kept and receipted, but held until a person releases it.",
    ),
    "GWY-19": (
        "centre",
        "A node has signed two different ends of one stream: its disk was set back, or a copy signs in its name. Nothing was refused. Ask the site.",
    ),
    "GWY-18": (
        "centre",
        "A stick brought records of an epoch after which a later one was opened. They are kept and receipted, but held until a person releases them.",
    ),
    "GWY-22": (
        "centre",
        "A node signs with another log key than the one in force, or a change of the key is not good. Nothing of it was taken: ask the site.",
    ),
    "GWY-23": (
        "centre",
        "A node goes on under a new log key without its old one's word: was the box replaced? Held as every further epoch; ask the site before you release it.",
    ),
    "GWY-16": ("centre", "A call failed inside the gateway. Look at its log; the node tries again."),
}
"""Alarms of the gateway: code, whose fault, what to do. The receiver raises GWY-10 to GWY-12 by code."""

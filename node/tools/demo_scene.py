"""One look at the whole demo, and how it reads: figures, words and marks for the page."""

from dataclasses import dataclass

from node.tools.demo_notebook import Tally
from node.tools.demo_traffic import RATES
from node.tools.demo_words import say


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything at one moment. `node_*` are the node's own figures, None while its page does not answer; pid 0: not running."""

    tally: Tally
    rate: int
    is_linked: bool
    is_node_up: bool
    is_gateway_up: bool
    node_pid: int
    gateway_pid: int
    node_waiting: int | None
    node_receipted: int | None
    done: frozenset[str]

    def facts(self) -> dict[str, int | bool | None]:
        """As plain figures, for a program."""
        tally = self.tally
        return {
            "sent": tally.sent, "confirmed": tally.confirmed, "waiting": tally.waiting, "lost": tally.lost, "doubled": tally.doubled,
            "rate": self.rate, "linked": self.is_linked, "node_up": self.is_node_up, "gateway_up": self.is_gateway_up,
            "node_waiting": self.node_waiting, "node_receipted": self.node_receipted,
        }  # fmt: skip


def marks(scene: Scene) -> dict[str, str]:
    """What the page's style turns on: data attributes of the root."""
    return {
        "link": "cut" if not scene.is_linked else "up" if scene.is_gateway_up else "waits",
        "node": "up" if scene.is_node_up else "down",
        "gateway": "up" if scene.is_gateway_up else "down",
        "box": "holds" if scene.tally.waiting else "empty",
        "pace": {RATES[0]: "least", RATES[-1]: "most"}.get(scene.rate, "some"),
        "tone": _tone(scene),
        "done": " ".join(sorted(scene.done)),
    }


def texts(scene: Scene, lang: str) -> dict[str, str]:
    """Every text that changes, by the name of its place on the page."""
    tally = scene.tally
    return {
        "sent": f"{tally.sent:,}",
        "box": f"{tally.waiting:,}",
        "centre": f"{tally.confirmed:,}",
        "box-note": say(lang, "box-note" if tally.waiting else "box-empty"),
        "rate": say(lang, "rate", n=scene.rate) if scene.rate else say(lang, "rate-none"),
        "node-says": say(lang, "node-silent")
        if scene.node_waiting is None
        else say(lang, "node-says", n=scene.node_waiting),
        "node-receipts": "" if scene.node_receipted is None else say(lang, "node-receipts", n=scene.node_receipted),
        "node-process": _process(lang, scene.node_pid, is_up=scene.is_node_up),
        "gateway-process": _process(lang, scene.gateway_pid, is_up=scene.is_gateway_up),
        "link": say(lang, {"cut": "link-cut", "up": "link-up", "waits": "link-waits"}[marks(scene)["link"]]),
        "headline": _headline(scene, lang),
        "why": say(lang, _why(scene)),
    }


def _process(lang: str, pid: int, *, is_up: bool) -> str:
    return say(lang, "running", pid=str(pid)) if is_up and pid else say(lang, "starting")


def _is_wrong(tally: Tally) -> bool:
    return bool(tally.lost or tally.doubled)


def _tone(scene: Scene) -> str:
    if _is_wrong(scene.tally):
        return "failed"
    if not scene.is_node_up or not scene.is_gateway_up:
        return "attention"
    if not scene.tally.sent:
        return "unproven"
    return "waiting" if scene.tally.waiting or not scene.is_linked else "ok"


def _headline(scene: Scene, lang: str) -> str:
    tally = scene.tally
    if _is_wrong(tally):
        return say(
            lang, "check-wrong", confirmed=tally.confirmed, sent=tally.sent, lost=tally.lost, doubled=tally.doubled
        )  # fmt: skip
    if not tally.sent:
        return say(lang, "check-none")
    if not tally.waiting:
        return say(lang, "check-all", n=tally.sent)
    return say(lang, "check-some", confirmed=tally.confirmed, sent=tally.sent, waiting=tally.waiting)


def _why(scene: Scene) -> str:
    if not scene.is_node_up:
        return "why-node"
    if not scene.is_gateway_up:
        return "why-gateway"
    if not scene.is_linked:
        return "why-cut"
    if not scene.tally.sent:
        return "why-none"
    return "why-drain" if scene.tally.waiting else "why-all"

"""What a code means to a technician: one sentence, and one line on what to do. Every VRD code of `verdict` stands here."""

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final

from node.web.speech import Speech
from node.web.verdict import ROOM_DAYS_MAX, age_seconds

Params = Mapping[str, Any]


def verdict(status: Mapping[str, Any], voice: Speech) -> str:
    """The status document's verdict as one sentence, as in "Link down 12 min, 1,204 records safe here, room for 9 days"."""
    opinion = status["verdict"]
    return sentence(opinion["code"], opinion["params"], status["now"], voice)


def verdict_advice(status: Mapping[str, Any], voice: Speech) -> str:
    """What to do about the verdict: where it names an alarm of the core, that alarm's own advice."""
    opinion = status["verdict"]
    _, own = _halves(opinion["params"].get("hint", ""), voice)
    return own or advice(opinion["code"], voice)


def sentence(code: str, params: Params, now: str, voice: Speech) -> str:
    """The sentence of a VRD code; "" for a code that is not ours. `params` hold "since" where it matters."""
    speak = SENTENCES.get(code)
    return speak(params, now, voice) if speak else ""


def state(name: str, voice: Speech) -> str:
    """The one word for a state."""
    say = voice.say
    words = {
        "ok": say("OK"),
        "unproven": say("Unproven"),
        "waiting": say("Waiting"),
        "attention": say("Attention"),
        "failed": say("Failed"),
    }
    return words.get(name, name)


def link(name: str, voice: Speech) -> str:
    """The word for a link's state."""
    say = voice.say
    words = {
        "up": say("Link up"),
        "unproven": say("Link not proven"),
        "down": say("Link down"),
        "fenced": say("Locked out"),
        "revoked": say("Revoked"),
        "off": say("Switched off"),
    }
    return words.get(name, name)


def lane(name: str, voice: Speech) -> str:
    """The word for a lane."""
    say = voice.say
    return {"critical": say("critical"), "routine": say("routine"), "bulk": say("bulk")}.get(name, name)


def line(name: str, voice: Speech) -> str:
    """The word for what happened to a feed's line, or for which way bytes went."""
    say = voice.say
    words = {
        "in": say("from the device"),
        "out": say("to the device"),
        "opened": say("The line is open."),
        "away": say("The line is gone."),
        "taken": say("Another program has the port."),
        "stalled": say("The device does not take what is sent to it."),
        "good": say("check value good"),
        "wrong": say("check value wrong"),
        "unchecked": say("not checked"),
        "broken": say("not whole"),
    }
    return words.get(name, name)


def condition(name: str, voice: Speech) -> str:
    """What a line's bytes say of its settings."""
    say = voice.say
    words = {
        "silent": say("Too little was heard to judge the settings."),
        "clear": say("What comes reads well."),
        "binary": say("What comes is no text: a binary device, or wrong settings."),
        "wrong-rate": say("What comes looks like a wrong baud rate."),
        "wrong-parity": say("What comes looks like a wrong parity."),
    }
    return words.get(name, name)


def instant(at_us: int, zone: tzinfo) -> str:
    """A time of day to the millisecond: lines of a device are compared with its print-out."""
    return datetime.fromtimestamp(at_us / 1e6, zone).strftime("%H:%M:%S.%f")[:-3]


def quality(what: str, voice: Speech) -> str:
    """What is poor about a value."""
    say = voice.say
    words = {
        "missing": say("is missing"),
        "invalid": say("is not a valid number"),
        "future": say("lies in the future"),
        "not-a-date": say("is not a date"),
        "unknown-code": say("is a code that the table does not have"),
        "local-escape": say("holds a sign of the sender's own that nobody has explained"),
    }
    return words.get(what, what)


DESTINATION_LOOKS: Final = {
    "up": "ok",
    "unproven": "unproven",
    "retrying": "waiting",
    "stopped": "attention",
    "off": "failed",
}


def destination(name: str, voice: Speech) -> str:
    """The word for how a system of the site takes what it is sent."""
    say = voice.say
    words = {
        "up": say("takes messages"),
        "unproven": say("nothing sent yet"),
        "retrying": say("tries again"),
        "stopped": say("waits for a person"),
        "off": say("not served"),
    }
    return words.get(name, name)


def advice(code: str, voice: Speech) -> str:
    """What to do about a VRD code, and who has to; "" where nothing is to be done."""
    say = voice.say
    lines = {
        "VRD-10": say("The gateway answers. The first receipt will prove the whole way."),
        "VRD-20": say("Nothing is lost. Check the network cable, the router and the line; sending resumes by itself."),
        "VRD-21": say("Nothing to do: the oldest records go first."),
        "VRD-22": say("Nothing is lost. Switch sending on in the configuration when the line is ready."),
        "VRD-30": say("Check the feed's address and port. The other feeds are not affected."),
        "VRD-31": say("Check the source system and its cable; the node is ready to receive."),
        "VRD-32": say("Restore the link or call the centre before the storage is full."),
        "VRD-33": say("Records are still taken in. Call the centre and quote the code; do not reset the node."),
        "VRD-34": say("Records are still taken in. Find the other copy of this node; then call the centre."),
        "VRD-35": say("Records are still taken in. Call the centre for a new certificate."),
        "VRD-36": say(
            "Sources are being refused; what was accepted is safe. Restore the link so that the storage drains."
        ),
        "VRD-37": say(
            "Nothing is lost: a paused source keeps its messages and goes on by itself. Restore the link so that the storage drains."
        ),
        "VRD-38": say(
            "Messages are taken in and sent as always. Call the centre and quote the code: a person there has to release them."
        ),
        "VRD-39": say("Messages are still taken in. Call the centre and quote the code."),
        "VRD-40": say("Sources are being refused. It should restart within seconds; if it does not, restart the node."),
        "VRD-41": say(
            "Sources are being refused; what was accepted is safe. Restore the link so that the storage drains."
        ),
        "VRD-42": say("Sources are being refused. Check the configuration of the feeds."),
        "VRD-43": say(
            "Sources are being refused; what was accepted is safe. Restore the link so that the storage drains."
        ),
        "VRD-49": say("Reload this page. If the message stays, restart the node and quote the code."),
    }
    return lines.get(code, "")


def _ok(params: Params, _now: str, voice: Speech) -> str:
    arrived = voice.plural("{n} record receipted", "{n} records receipted", params["receipted"])
    return voice.join(voice.say("Link up"), arrived, _on_the_way(params, voice))


def _on_the_way(params: Params, voice: Speech) -> str:
    if not params["waiting"]:
        return voice.say("nothing waits")
    return voice.plural("{n} is on its way", "{n} are on their way", params["waiting"])


def _unproven(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(voice.say("Gateway contacted, nothing receipted yet"), _safe(params, voice))


def _link_down(params: Params, now: str, voice: Speech) -> str:
    down = voice.say("Link down")
    if params.get("since"):
        down = voice.say("Link down {span}").format(span=voice.span(age_seconds(params["since"], now)))
    return voice.join(down, _safe(params, voice), _room(params, voice))


def _catching_up(params: Params, now: str, voice: Speech) -> str:
    sending = voice.plural("sending {n} record that waited", "sending {n} records that waited", params["waiting"])
    oldest = voice.say("the oldest came {span} ago").format(span=voice.span(age_seconds(params["since"], now)))
    return voice.join(voice.say("Link up"), sending, oldest)


def _switched_off(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(voice.say("Sending is switched off"), _safe(params, voice), _room(params, voice))


def _feed_stopped(params: Params, _now: str, voice: Speech) -> str:
    return voice.say("Feed {feed} is not running").format(feed=voice.isolate(params["feed"]))


def _feed_silent(params: Params, now: str, voice: Speech) -> str:
    span = voice.span(age_seconds(params["since"], now))
    return voice.say("Feed {feed} has been silent for {span}").format(feed=voice.isolate(params["feed"]), span=span)


def _storage_low(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(voice.say("The disk is filling"), _room(params, voice), _safe(params, voice))


def _no_bulk(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(
        voice.say("The disk is filling, so bulk messages are refused"), _room(params, voice), _safe(params, voice)
    )


def _paused(params: Params, _now: str, voice: Speech) -> str:
    paused = voice.plural(
        "The disk is filling, so {n} bulk feed is paused",
        "The disk is filling, so {n} bulk feeds are paused",
        params["feeds"],
    )
    return voice.join(paused, _room(params, voice), _safe(params, voice))


def _critical_only(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(
        voice.say("The disk is nearly full, so only critical messages are taken in"), _safe(params, voice)
    )


def _stream_halted(params: Params, _now: str, voice: Speech) -> str:
    stopped = voice.say("Stream {stream} is stopped ({cause})").format(
        stream=voice.isolate(params["stream"]), cause=voice.isolate(params["cause"])
    )
    return voice.join(stopped, _safe(params, voice))


def _fenced(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(
        voice.say("Another copy of this node has taken its place, so nothing is sent"), _safe(params, voice)
    )


def _revoked(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(voice.say("The centre has revoked this node, so nothing is sent"), _safe(params, voice))


def _held(params: Params, _now: str, voice: Speech) -> str:
    if params["restored"]:
        return voice.say("This node was restored from an older backup, so the centre holds its records until released")
    return voice.say("The centre holds this node's records until a person there releases them")


def _standing(params: Params, _now: str, voice: Speech) -> str:
    what, _ = _halves(params["hint"], voice)
    if not params["subject"]:
        return voice.say("Something needs attention: {what}").format(what=what)
    subject = voice.isolate(params["subject"])
    return voice.say("Something needs attention ({subject}): {what}").format(subject=subject, what=what)


def _halves(hint: str, voice: Speech) -> tuple[str, str]:
    """The catalogue's words on a code: what is so, and what to do about it, in this language."""
    so, _, to_do = voice.say(hint).partition(". ") if hint else ("", "", "")
    return so.removesuffix("."), to_do


def _core_down(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(voice.say("The core is not running, so no message is taken in"), _safe(params, voice))


def _storage_full(params: Params, _now: str, voice: Speech) -> str:
    return voice.join(voice.say("Storage is full, so no message is taken in"), _safe(params, voice))


def _no_feed(_params: Params, _now: str, voice: Speech) -> str:
    return voice.say("No feed is running, so no message is taken in")


def _unreadable(_params: Params, _now: str, voice: Speech) -> str:
    return voice.say("The page cannot read the state of the node")


def _safe(params: Params, voice: Speech) -> str:
    if not params["waiting"]:
        return voice.say("nothing waits")
    return voice.plural("{n} record safe here", "{n} records safe here", params["waiting"])


def _room(params: Params, voice: Speech) -> str:
    """The room left: in days where the rate is known, else in bytes."""
    days = params.get("room_days")
    if days is None:
        return voice.say("room for {size}").format(size=voice.size(params["room_bytes"]))
    if days >= ROOM_DAYS_MAX:
        return voice.say("room for years")
    if days == 0:
        return voice.say("room for less than a day")
    return voice.plural("room for {n} day", "room for {n} days", days)


SENTENCES: Final[Mapping[str, Callable[[Params, str, Speech], str]]] = {
    "VRD-00": _ok,
    "VRD-10": _unproven,
    "VRD-20": _link_down,
    "VRD-21": _catching_up,
    "VRD-22": _switched_off,
    "VRD-30": _feed_stopped,
    "VRD-31": _feed_silent,
    "VRD-32": _storage_low,
    "VRD-33": _stream_halted,
    "VRD-34": _fenced,
    "VRD-35": _revoked,
    "VRD-36": _no_bulk,
    "VRD-37": _paused,
    "VRD-38": _held,
    "VRD-39": _standing,
    "VRD-40": _core_down,
    "VRD-41": _storage_full,
    "VRD-42": _no_feed,
    "VRD-43": _critical_only,
    "VRD-49": _unreadable,
}

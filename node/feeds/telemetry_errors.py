"""What can go wrong between the node and a broker or a polled line: alarms, and the causes that gap records name."""

from typing import ClassVar, Final

from node.errors import Fault, NodeError


class BrokerError(NodeError):
    """The broker cannot be used just now; the node tries again by itself."""

    code = "MQT-10"
    fault: ClassVar[Fault] = "site"
    hint = "The MQTT broker is not reached. Check its machine, its port and the cable; what devices send meanwhile waits in the broker, if it runs."
    retryable = True


class BrokerRefused(BrokerError):
    """The broker answered, and refused this client."""

    code = "MQT-11"
    hint = "The broker refuses this node: user, password, certificate or client id. Compare them with the broker's configuration; it must speak MQTT 5."


class BrokerTls(BrokerError):
    """No TLS with the broker."""

    code = "MQT-12"
    hint = "TLS with the broker fails: its certificate is not of `ca`, names another host, or it refuses ours. Check certificates, dates, and the clock."


class CredentialsUnreadable(BrokerError):
    """A file with the broker's password or a key cannot be used."""

    code = "MQT-13"
    hint = "The file with the broker's password, certificate or key cannot be read or is empty. Put it back; the node tries again by itself."


class ProfileBad(NodeError):
    """The profile of a device on a Modbus line is not there, or is no profile."""

    code = "MOD-07"
    fault: ClassVar[Fault] = "site"
    hint = "A device on a Modbus line names a profile that is not there or not readable. `wasl devices` lists those there are."


ALARMS: Final[dict[str, tuple[Fault, str]]] = {
    "MQT-14": (
        "site",
        "The broker has forgotten this node's session: what it held for us is lost, and a gap is recorded. Set the broker to keep sessions on disk.",
    ),
    "MQT-15": (
        "site",
        "The broker throws this node out again and again: mostly another client uses the same id. Give each its own `client_id`, then restart the node.",
    ),
    "MQT-16": (
        "site",
        "The broker is connected, but our own heartbeat does not come back through it. The node connects again; if it goes on, restart the broker.",
    ),
    "MQT-17": (
        "site",
        "The broker does not grant a subscription or the heartbeat's topic. Allow them in its access list: read for `topics`, both ways for the heartbeat.",
    ),
    "MQT-18": (
        "source",
        "Messages that were sent with QoS 0 came while there was no room, and cannot be asked for again. Let the devices send with QoS 1.",
    ),
    "MOD-01": (
        "source",
        "A device on a Modbus line does not answer. Check its power, its address on the line, and the two wires; the other devices are polled on.",
    ),
    "MOD-02": (
        "site",
        "A Modbus device answers that it does not have what is asked for. Compare function, address and count with its manual.",
    ),
    "MOD-03": (
        "site",
        "A Modbus line cannot be opened: the adapter is not plugged in, is in use, or the gateway's port does not answer. Check cable and address.",
    ),
    "MOD-04": (
        "source",
        "Replies on a Modbus line are damaged or not to the question. Check baud rate, parity, termination, and that no second master is on the line.",
    ),
    "MOD-05": (
        "site",
        "Polls of a Modbus line come too late for their interval. Ask less often, or shorten `answer_ms_max`, or use a second line.",
    ),
    "MOD-06": (
        "node",
        "The node did not run for a while, so nothing was polled. The time between is recorded as a gap.",
    ),
}
"""Raised without an exception, or named as the cause of a gap: code, whose fault, what to do."""

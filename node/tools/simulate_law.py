"""`wasl simulate law`: an analyzer that asks for its orders (IHE LAW, LAB-27) and listens for them (LAB-28)."""

import socket
import time
from collections import Counter
from datetime import UTC, datetime
from queue import Empty, Queue
from threading import Thread
from typing import Final

import click

from hl7.message import Message
from hl7.mllp import Decoder, Frame, encode
from node.tools.mllp_client import MllpClient, NoReplyError, parse_address

FRAME_BYTES_MAX: Final = 1_048_576  # an order has some hundred bytes a test
ATTEMPTS_MAX: Final = 5
FAULTS: Final = ("silent", "refuse", "unable")
_TESTS_MAX: Final = 200


def query(sample: str, *, number: str, now: datetime) -> bytes:
    """The query for one sample, or for all that is not given yet where it is empty."""
    asked = (
        f"WOS^Work Order Step^IHE_LABTF|{number}|{sample}"
        if sample
        else f"WOS_ALL^Work Order Step All^IHE_LABTF|{number}"
    )
    return (
        f"MSH|^~\\&|WASL_SIM|LAB|WASL|HUB|{now:%Y%m%d%H%M%S}+0000||QBP^Q11^QBP_Q11|{number}|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r"
        f"QPD|{asked}\rRCP|I||R\r"
    ).encode()


def reply(work: bytes, fault: str, now: datetime) -> bytes:
    """What the analyzer says to an order (ORL^O34); nothing where it is silent."""
    if fault == "silent":
        return b""
    code, control = (b"AR", b"UA") if fault == "refuse" else (b"AA", b"UA" if fault == "unable" else b"OK")
    stamp = f"{now:%Y%m%d%H%M%S}+0000".encode()
    head = b"MSH|^~\\&|WASL_SIM|LAB|WASL|HUB|%b||ORL^O34^ORL_O42|R%b|P|2.5.1|||ER|NE||UNICODE UTF-8|||LAB-28^IHE\r"
    own = Message(work).get("MSH-10") or b""
    return head % (stamp, own) + b"MSA|%b|%b\rSPM|1\rORC|%b\r" % (code, own, control)


def told(work: bytes) -> str:
    """An order as one line: the sample and its tests."""
    message = Message(work)
    sample = (message.get("SAC-3") or b"").decode()
    tests = [message.get(f"OBR[{place}]-4.1") for place in range(1, _TESTS_MAX + 1)]
    names = ", ".join(test.decode() for test in tests if test is not None)
    return f"{sample}: {names or 'no work'}"


class Listener(Thread):
    """The analyzer's own port: each order is answered, and put where the command finds it. Ends with the process."""

    def __init__(self, address: tuple[str, int], fault: str) -> None:
        super().__init__(daemon=True)
        self.orders: Queue[str] = Queue()
        self._server, self._fault = socket.create_server(address), fault

    def run(self) -> None:
        """One connection after the other: a node has one."""
        while True:
            peer, _ = self._server.accept()
            decoder = Decoder(FRAME_BYTES_MAX)
            with peer:
                while data := peer.recv(65_536):
                    for event in decoder.receive(data):
                        if isinstance(event, Frame):
                            self.orders.put(told(event.payload))
                            said = reply(event.payload, self._fault, datetime.now(UTC))
                            peer.sendall(encode(said) if said else b"")


@click.command("law")
@click.argument("samples", nargs=-1)
@click.option("--to", "address", required=True, help='host:port of an MLLP feed with orders = "query".')
@click.option(
    "--listen", "own", required=True, help="host:port at which this analyzer takes its orders: the feed's orders_to."
)
@click.option(
    "--wait",
    "wait_s",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds to wait for orders after the last one.",
)
@click.option(
    "--fault",
    type=click.Choice(FAULTS),
    default=None,
    help="silent: no reply to an order; refuse: AR; unable: ORC-1 UA.",
)
def law_command(samples: tuple[str, ...], address: str, own: str, wait_s: float, fault: str | None) -> None:
    """An analyzer that asks for these samples, or without any for all orders it has not been given."""
    listener, codes = Listener(parse_address(own), fault or ""), Counter[str]()
    listener.start()
    with MllpClient(parse_address(address), attempts_max=ATTEMPTS_MAX) as client:
        for place, sample in enumerate(samples or ("",)):
            try:
                codes[client.send(query(sample, number=f"LAW{time.time_ns()}-{place}", now=datetime.now(UTC)))] += 1
            except NoReplyError:
                codes["none"] += 1
        try:
            while True:
                click.echo(listener.orders.get(timeout=wait_s))
        except Empty:
            pass
    click.echo(", ".join(f"{code} {each}" for code, each in sorted(codes.items())))

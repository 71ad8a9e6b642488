"""The demo's simulated hospital: one message at a time, over a real socket for each feed, again and again until it is acknowledged."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Event, Thread

from node.tools.demo_notebook import Notebook
from node.tools.hospital import Fault, Hospital, Sent
from node.tools.hospital_segments import PRODUCTION
from node.tools.mllp_client import MllpClient, StoppedError, parse_address

SEED = 7
RATES = (0, 1, 2, 5, 10, 25, 50, 100)  # messages a second; a clinic has one, a hospital at noon five to ten
RATE_DEFAULT = 5
RETRY_PAUSE_S = 0.2  # a killed node is back in about a second: its return shall be seen
TURN_S = 0.25  # a paused hospital looks so often whether it may go on
ATTEMPTS_MAX = 5  # of the one message that a person sends by hand
FEED_OF = {"ADT": "his", "ORU": "laboratory", "ORM": "orders"}


class Traffic(Thread):
    """Sends at `rate` messages a second, 0 = none, until stopped. `addresses`: host:port of each feed by name."""

    def __init__(self, addresses: Mapping[str, str], *, run: int, rate: int) -> None:
        super().__init__(name="hospital", daemon=True)
        self.notebook = Notebook(f"{SEED}-{run}-")
        self.rate = rate
        self._addresses = addresses
        self._hospital = Hospital(SEED, run=run, processing_id=PRODUCTION)
        self._stopped = Event()

    def change(self, step: int) -> int:
        """Go so many steps up or down the list of rates; give the new one."""
        at = RATES.index(self.rate) + step
        self.rate = RATES[min(max(at, 0), len(RATES) - 1)]
        return self.rate

    def stop(self) -> None:
        """End; a message on its way may or may not have been taken."""
        self._stopped.set()

    def run(self) -> None:
        """Send until stopped."""
        clients = {
            feed: MllpClient(parse_address(address), retry_pause_s=RETRY_PAUSE_S, stop=self._stopped)
            for feed, address in self._addresses.items()
        }
        due_s = time.monotonic()
        while not self._stopped.wait(max(0.0, due_s - time.monotonic())):
            rate = self.rate
            if not rate or self.notebook.is_full:
                due_s = time.monotonic() + TURN_S
                continue
            due_s = max(due_s, time.monotonic()) + 1 / rate  # after a wait it goes on at its rate, without a burst
            message = self._hospital.next_message(now=datetime.now(UTC))
            try:
                self._deliver(clients, message)
            except StoppedError:
                break
        for client in clients.values():
            client.close()

    def _deliver(self, clients: Mapping[str, MllpClient], message: Sent) -> None:
        """Send until AA; a node that says no for want of room is asked again, as a hospital would."""
        feed = FEED_OF[message.kind.partition("^")[0]]
        while clients[feed].send(message.raw) != "AA":
            if self._stopped.wait(1.0):
                raise StoppedError
        self.notebook.acknowledged(feed, message.control_id)  # in the demo a feed's stream bears its name


def send_headless(address: str, run: int) -> str:
    """Send one message without its MSH segment; give the reply's code. NoReplyError: nobody answered."""
    broken = Hospital(SEED, run=run, processing_id=PRODUCTION).broken_message(Fault.NO_MSH, now=datetime.now(UTC))
    with MllpClient(parse_address(address), retry_pause_s=RETRY_PAUSE_S, attempts_max=ATTEMPTS_MAX) as client:
        return client.send(broken.raw)

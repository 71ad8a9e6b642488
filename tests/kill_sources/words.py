"""What the sources of the kill loop have in common: names that look synthetic, how long an answer may take, and the byte that says that it was taken."""

import socket

from tests.astm_rig import ACK
from tests.kill_rig import LoopError

ANSWER_S_MAX = 40.0  # a machine that does other things
NAMES = ("سلمى تجريبية", "Test Patient", "خالد تجريبي", "Zoë Probe")


def exchange(peer: socket.socket, data: bytes) -> None:
    """Send, and read the one byte that says it was taken. OSError where nobody knows; LoopError where it says anything else."""
    peer.sendall(data)
    answer = peer.recv(1)
    if not answer:
        raise ConnectionResetError("closed")
    if answer != ACK:
        raise LoopError(f"{answer!r}")

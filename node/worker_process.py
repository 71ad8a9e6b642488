"""A process that does one kind of work on bodies, bounded: what it may take, and how bodies and answers are told apart. Its parent's side: `worker.py`."""

import ctypes
import json
import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")  # before each body and each answer
MEMORY_BYTES_MAX = 768 * 1024 * 1024  # of address space: 300 MB are the interpreter's and the largest library's own
PR_SET_PDEATHSIG = 1  # prctl(2)


def confine(memory_bytes_max: int = MEMORY_BYTES_MAX) -> None:
    """Bound what this process may take; it ends with its parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends with its parent, which finishes what is under way
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # intake comes first


def serve(given: BinaryIO, answers: BinaryIO, work: Callable[[bytes], list[Any]], exhausted: list[Any]) -> None:
    """Answer body after body until there are no more; with `exhausted` where memory does not suffice."""
    while len(head := given.read(LENGTH.size)) == LENGTH.size:
        body = given.read(LENGTH.unpack(head)[0])
        try:
            rows = work(body)
        except MemoryError:
            rows = exhausted
        data = json.dumps(rows).encode()
        answers.write(LENGTH.pack(len(data)) + data)
        answers.flush()

"""Waiting for what must come, for as long as a busy machine may take: no test asserts how long that was."""

import time
from collections.abc import Callable
from typing import TypeVar

WAIT_S_MAX = 40.0  # for what must come; a busy machine is slow, and no test asserts how slow
T = TypeVar("T")


def wait_until(what: str, found: Callable[[], T], *, s_max: float = WAIT_S_MAX) -> T:
    """The first true value; RuntimeError where it never comes."""
    deadline = time.monotonic() + s_max
    while not (value := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"never came: {what}")
        time.sleep(0.02)
    return value

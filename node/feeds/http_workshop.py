"""What all feeds over HTTP of a node share: the memory for bodies that are coming, a thread for long ones, the process that validates."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from node.feeds.fhir_validation import Validator
from node.feeds.open_frames import OpenFrames
from node.signatures.check import Checker

P = ParamSpec("P")
T = TypeVar("T")


class Workshop:
    """Used from the event loop only."""

    def __init__(self, frames: OpenFrames, checker: Checker | None = None) -> None:
        self.frames = frames
        self.checker = checker
        self.validator = Validator()
        # one at a time: what a long body takes when it is read is many times its length
        self._thread = asyncio.Lock()

    async def run(self, is_long: bool, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Do it here, or in a thread where it would hold up the loop."""
        if not is_long:
            return work(*arguments, **named)
        async with self._thread:
            return await asyncio.to_thread(work, *arguments, **named)

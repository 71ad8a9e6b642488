"""The product's values, futures and queues at less cost: equal in what they do, without guards that nothing in one thread can meet.

Runs with real keys keep the product's own. What is left out: that a frozen value refuses to be changed (mypy sees to it), and locks.
"""

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from queue import Empty, Full
from types import ModuleType
from typing import Any

from tests.sim.machine import broken


class Future:
    """Stands where threads share a concurrent.futures.Future: here whoever asks for the result comes after it."""

    __slots__ = ("_callbacks", "_done", "_error", "_result")

    def __init__(self) -> None:
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], None]] = []

    def set_result(self, result: Any) -> None:
        self._result = result
        self._settle()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._settle()

    def _settle(self) -> None:
        if self._done:
            broken("a future has two outcomes")
        self._done = True
        for callback in self._callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def set_running_or_notify_cancel(self) -> bool:
        return True

    def exception(self) -> BaseException | None:
        if not self._done:
            broken("waits for a future that nobody will settle")
        return self._error

    def result(self) -> Any:
        if (error := self.exception()) is not None:
            raise error
        return self._result


class Queue:
    """Stands where the ledger has a queue.Queue; nothing waits at it."""

    __slots__ = ("_items", "_most")

    def __init__(self, most: int) -> None:
        self._items: deque[Any] = deque()
        self._most = most

    def put_nowait(self, item: Any) -> None:
        if len(self._items) >= self._most:
            raise Full
        self._items.append(item)

    def get(self, *, block: bool) -> Any:
        if not self._items:
            if block:
                broken("waits at an empty queue")
            raise Empty
        return self._items.popleft()

    def qsize(self) -> int:
        return len(self._items)


# -- values --------------------------------------------------------------------------------------------------------


def replace(made: Any, /, **changes: Any) -> Any:
    """dataclasses.replace with its loop unrolled."""
    return _replacer(type(made), *changes)(made, *changes.values())


@cache
def _replacer(kind: type, *changed: str) -> Callable[..., Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    # one whose __init__ does more stays frozen
    if hasattr(kind, "__post_init__") or _init(kind) is None or not set(changed) <= set(names):
        return lambda made, *values: dataclasses.replace(made, **dict(zip(changed, values, strict=True)))
    put = "".join(f"    new.{name} = {name if name in changed else f'made.{name}'}\n" for name in names)
    return _made(f"def made(made, {', '.join(changed)}):\n    new = _bare(_kind)\n{put}    return new\n", kind)


def _made(text: str, kind: type, **scope: Any) -> Callable[..., Any]:
    scope |= {"_kind": kind, "_bare": object.__new__}
    exec(text, scope)
    made: Callable[..., Any] = scope["made"]
    return made


@cache
def _init(kind: type) -> Callable[..., None] | None:
    """An __init__ that sets attributes as any other class does; None where this one does more than that."""
    fields = dataclasses.fields(kind)
    if any(not field.init or field.default_factory is not dataclasses.MISSING for field in fields):
        return None
    scope = {f"_default_{f.name}": f.default for f in fields if f.default is not dataclasses.MISSING}
    said = {f.name: f"{f.name}=_default_{f.name}" if f"_default_{f.name}" in scope else f.name for f in fields}
    plain = [said[field.name] for field in fields if not field.kw_only]
    named = [said[field.name] for field in fields if field.kw_only]
    arguments = ", ".join(["self", *plain, *(["*", *named] if named else [])])
    put = "".join(f"    self.{field.name} = {field.name}\n" for field in fields)
    if hasattr(kind, "__post_init__"):
        put += "    self.__post_init__()\n"
    return _made(f"def made({arguments}):\n{put or '    pass'}", kind, **scope)


@cache
def _frozen_values(modules: tuple[ModuleType, ...]) -> tuple[type, ...]:
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return tuple(
        each for each in found.values()
        if "__dataclass_params__" in vars(each) and vars(each)["__dataclass_params__"].frozen and _init(each) is not None
    )  # fmt: skip


def lean_values(rooms: tuple[str, ...]) -> Iterator[tuple[type, str, Any]]:
    """Make the frozen values of these rooms plain ones; gives (class, name, what stood there) to be put back."""
    modules = tuple(module for name, module in list(sys.modules.items()) if name.startswith(rooms))
    for kind in _frozen_values(modules):
        for name in ("__init__", "__setattr__", "__delattr__"):
            yield kind, name, vars(kind)[name]
        kind.__init__ = _init(kind)  # type: ignore[misc]  # as the product's, but for the refusal of later changes
        del kind.__setattr__, kind.__delattr__

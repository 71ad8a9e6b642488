"""The control socket: short orders of the same user, answered whatever the asker does; a dead core is told as silent."""

import asyncio
import socket
import stat
import threading
from pathlib import Path

import pytest

from node import control
from node.control import CLIENTS_MAX, REQUEST_BYTES_MAX, SOCKET_NAME, ControlServer, ask
from node.errors import CoreSilent, QueueFull


class Server:
    """A control server on a loop of its own, in a thread."""

    def __init__(self, folder: Path, **orders) -> None:
        self.folder, self.asked = folder, []
        self._loop = asyncio.new_event_loop()
        self._server = ControlServer(folder, orders)
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self):
        await self._server.stop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(self.folder / SOCKET_NAME))
        return sock


async def status():
    return {"feeds": ["طوارئ"], "number": 7}


async def fail():
    raise QueueFull("full")


async def burst():
    raise ZeroDivisionError


async def never():
    await asyncio.sleep(3600)


async def long():
    return "x" * 1_000_000


def test_an_order_is_answered_with_its_value(tmp_path):
    with Server(tmp_path, status=status, long=long):
        assert ask(tmp_path, "status") == {"feeds": ["طوارئ"], "number": 7}
        assert len(ask(tmp_path, "long")) == 1_000_000


@pytest.mark.parametrize(
    ("order", "says"), [("fail", "NOD-01"), ("burst", "ZeroDivisionError"), ("make tea", "unknown order")]
)
def test_an_order_that_fails_is_answered_with_its_code_or_name(tmp_path, order, says):
    with Server(tmp_path, fail=fail, burst=burst, status=status):
        with pytest.raises(CoreSilent, match=says):
            ask(tmp_path, order)
        assert ask(tmp_path, "status")["number"] == 7


def test_an_order_that_hangs_is_given_up_and_others_are_served(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "WAIT_S_MAX", 0.3)
    with Server(tmp_path, never=never, status=status):
        with pytest.raises(CoreSilent):
            ask(tmp_path, "never")
        assert ask(tmp_path, "status")["number"] == 7


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"x" * (REQUEST_BYTES_MAX * 3) + b"\n", b"\n", b"{}\n", b"status"])
def test_bytes_that_are_no_order_are_refused_and_others_served(tmp_path, data):
    with Server(tmp_path, status=status) as server:
        with server.connect() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := sock.recv(4096):
                    answer += part
            except ConnectionError:
                pass  # closed with our bytes unread
            assert answer in {b"", b'{"error": "unknown order"}\n'} or data == b"status"
        assert ask(tmp_path, "status")["number"] == 7


def test_clients_that_say_nothing_are_given_up_and_no_more_than_a_few_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "WAIT_S_MAX", 0.5)
    with Server(tmp_path, status=status) as server:
        silent = [server.connect() for _ in range(CLIENTS_MAX + 5)]
        for sock in silent:
            assert sock.recv(1) == b""  # the last ones at once, the first when their time is over
            sock.close()
        assert ask(tmp_path, "status")["number"] == 7


def test_only_user_and_group_may_open_the_socket(tmp_path):
    with Server(tmp_path, status=status):
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o660


def test_a_data_folder_may_lie_deeper_than_a_socket_path_may_be_long(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with Server(deep, status=status):
        assert ask(deep, "status")["number"] == 7


def test_a_socket_left_by_a_killed_core_is_silent_and_replaced_by_the_next(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET_NAME))
    with pytest.raises(CoreSilent):
        ask(tmp_path, "status")
    with Server(tmp_path, status=status):
        assert ask(tmp_path, "status")["number"] == 7
    assert not (tmp_path / SOCKET_NAME).exists()


@pytest.mark.parametrize("folder", ["", "none"])
def test_a_core_that_never_ran_is_silent(tmp_path, folder):
    with pytest.raises(CoreSilent):
        ask(tmp_path / folder, "status")


@pytest.mark.parametrize("answer", [b"", b"garbage", b"[]", b'{"answer"', b"7", b"\xff"])
def test_a_core_that_answers_garbage_is_silent(tmp_path, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(CoreSilent):
            ask(tmp_path, "status")
        thread.join()

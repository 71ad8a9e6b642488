"""The line monitor in a real browser: both languages, narrow and wide, live, and without values unless they are permitted."""

import socket
import stat

import pytest
import urllib3
from click.testing import CliRunner
from playwright.sync_api import expect

from hl7.devices.line_doctor import Heard
from node.cli.command import EXIT_USAGE
from node.cli.main import main
from node.lines.trace import LineTrace
from tests.node_rig import Node as RealNode
from tests.node_rig import running, wait_until
from tests.serial_rig import Printer
from tests.sim_status import Node, feed, served, status
from tests.test_node_web_browser import SHOTS, TARGET_PX, WIDTHS_PX, browser, live, opened

__all__ = ["browser"]  # a fixture

PORT = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A10KAB5X-if00-port0"
FRAME = b"\x022R|1|^^^GLU|5.4|mmol/L|3.9^5.8|N\r\x03"
NAME = "مريض تجريبي"


class Line:
    """A feed's line as the core tells it, and who may see its values."""

    def __init__(self, *, may_show: bool = False) -> None:
        self.at_us = 1_795_000_000_000_000
        self.trace, self.may_show = LineTrace(lambda: self.at_us), may_show
        self.trace.noted("opened", PORT)
        for way, data in (
            ("in", b"\x05"),
            ("out", b"\x06"),
            ("in", f"\x021H|\\^&|||A1^{NAME}\r".encode() + b"\x03"),
            ("in", b"FF\r\n"),
            ("out", b"\x15"),
        ):
            self.says(way, data)
        self.says("in", FRAME + b"%02X\r\n" % (sum(FRAME[1:]) % 256))

    def says(self, way: str, data: bytes) -> None:
        self.at_us += 120_000
        (self.trace.came if way == "in" else self.trace.went)(data, PORT)

    def look(self, name: str, is_asked: bool) -> dict:
        is_shown = is_asked and self.may_show
        return {
            "feed": name,
            "may_show": self.may_show,
            "is_shown": is_shown,
            "rows": self.trace.document(is_shown=is_shown),
        }


def document() -> dict:
    heard = Heard()
    heard.take(b"\xfe\x00\x80" * 30, 40)
    gap = {
        "code": "SER-07",
        "subject": "chem",
        "since": "2026-11-18T08:00:00Z",
        "until": "2026-11-18T08:04:00Z",
        "count": 1,
    }
    told = {"settings": "9600 8N1", "doctor": heard.document(), "gap": gap}
    return status(feeds=[feed("chem", "astm", PORT, monitor=True, line=told), feed("his", "mllp", "10.20.7.4:2575")])


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_the_line_monitor_fits_every_width_and_shows_no_value(browser, lang):
    with served(Node(document()), look=Line().look) as (url, _), opened(browser, url, lang=lang) as (page, wrongs):
        expect(page.get_by_text({"en": "last gap", "ar": "آخر انقطاع"}[lang])).to_contain_text("SER-07")
        page.get_by_role("link", name={"en": "Line monitor", "ar": "مراقب الخط"}[lang]).click()
        live(page)
        assert page.evaluate("document.documentElement.dir") == {"en": "ltr", "ar": "rtl"}[lang]
        text = page.locator("#panel-line tbody").inner_text()
        for secret in ("GLU", "5.4", "mmol", NAME, "A1"):
            assert secret not in text
        for seen in ("ENQ", "ACK", "NAK", "STX 2 … ETX", "<CR>", "•|•|^^^•••|•.•|", "02 ·· ·· 7C", "11:06:40.120"):
            assert seen in page.locator("#panel-line").inner_text(), seen
        expect(page.locator("#panel-line .is-failed")).to_have_count(1)
        expect(page.locator("#panel-line .is-ok")).to_have_count(1)
        assert page.get_by_role("link", name={"en": "Show values", "ar": "إظهار القيم"}[lang]).count() == 0
        for width in WIDTHS_PX:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for target in page.locator("a:visible:not(.skip), button:visible").all():
                box = target.bounding_box()
                assert min(box["width"], box["height"]) >= TARGET_PX
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/line-{lang}-{width}.png", full_page=True)
        assert wrongs == []


def test_what_a_device_sends_appears_on_the_open_page_and_cannot_be_markup(browser):
    line = Line(may_show=True)
    with served(Node(document()), look=line.look) as (url, _), opened(browser, url) as (page, wrongs):
        page.goto(f"{url}/line/chem?lang=en&values=shown")
        live(page)
        line.says("in", b"<img id=hostile src=x onerror=alert(1)>\r")
        expect(page.locator("#panel-line .raw").first).to_have_text("<img id=hostile src=x onerror=alert(1)><CR>")
        assert page.locator("#hostile").count() == 0
        assert wrongs == []


def test_values_are_shown_only_where_permitted_and_only_when_asked_for(browser):
    line = Line(may_show=True)
    with served(Node(document()), look=line.look) as (url, _), opened(browser, url) as (page, wrongs):
        page.goto(f"{url}/line/chem?lang=en")
        assert "5.4" not in page.content()
        page.get_by_role("link", name="Show values").click()
        live(page)
        expect(page.locator("#panel-line tbody")).to_contain_text("^^^GLU|5.4|mmol/L|3.9^5.8|N")
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/line-shown.png", full_page=True)
        page.get_by_role("link", name="Hide values").click()
        expect(
            page.get_by_role("link", name="Show values")
        ).to_be_visible()  # the click returns before the other page is there
        assert "5.4" not in page.content()
        line.may_show = False

        def is_hidden() -> bool:
            page.goto(f"{url}/line/chem?lang=en&values=shown")
            return "5.4" not in page.content()

        wait_until("no value, once what was read a second ago is old", is_hidden)
        assert wrongs == []


def get(url: str, path: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False, timeout=20) as pool:
        return pool.request("GET", url + path)


def test_a_line_that_is_not_there_is_not_found():
    with served(Node(document()), look=Line().look) as (url, _):
        assert get(url, "/line/chem").status == 200
        assert get(url, "/line/nobody").status == 404
        assert get(url, "/line/nobody/events").status == 404


def test_a_core_that_is_silent_leaves_a_page_that_says_so():
    def look(name: str, _is_shown: bool) -> dict:
        return {"feed": name, "may_show": False, "is_shown": False, "rows": None}

    with served(Node(document()), look=look) as (url, _):
        assert "core does not answer" in get(url, "/line/chem?lang=en").data.decode()


@pytest.mark.parametrize(("web", "is_shown"), [("", False), ('[web]\nline_values = "on-request"', True)])
def test_a_core_lets_values_out_only_where_its_configuration_permits_it(realm, tmp_path, web, is_shown):
    with running(RealNode(realm, tmp_path, [Printer("printer")], more=web)) as node:
        with socket.create_connection(node.feed("printer").address) as peer:
            peer.sendall(b"GLU 5.4\r")
            wait_until("stored", lambda: node.stream("printer").size == 1)
            for order, wanted in (("line printer", False), ("line printer shown", is_shown)):
                told = node.ask(order)
                (text,) = [row["text"] for row in told["rows"] if row["way"] == "in"]
                assert text == ("GLU 5.4<CR>" if wanted else "••• •.•<CR>")
                assert told["is_shown"] is wanted
            file = tmp_path / "line.cap"
            result = CliRunner().invoke(
                main, ["feed", "capture", "--config", str(node.folder / "node.toml"), "printer", str(file)]
            )
            if is_shown:
                assert (result.exit_code, file.read_bytes()) == (0, b"GLU 5.4\r"), result.output
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
            else:
                assert (result.exit_code, file.exists()) == (1, False)
                assert 'line_values = "on-request"' in result.output
                assert node.ask("line printer received")["received"] is None
        assert "5.4" not in node.text()


def test_a_capture_is_a_file_for_each_connection_also_of_one_address(realm, tmp_path):
    more = '[web]\nline_values = "on-request"'
    with running(RealNode(realm, tmp_path, [Printer("printer")], more=more)) as node:
        where = node.feed("printer").address
        with socket.create_connection(where) as one, socket.create_connection(where) as other:
            one.sendall(b"GLU 5.")
            wait_until("half a report", lambda: len(node.ask("line printer received")["received"]) == 1)
            other.sendall(b"CREA 70\r")
            wait_until("the other's", lambda: node.stream("printer").size == 1)
            one.sendall(b"4\r")
            wait_until("stored", lambda: node.stream("printer").size == 2)
            capture = [
                "feed",
                "capture",
                "--config",
                str(node.folder / "node.toml"),
                "printer",
                str(tmp_path / "line.cap"),
            ]
            result = CliRunner().invoke(main, capture)
            files = {file.name: file.read_bytes() for file in tmp_path.glob("line*.cap")}
            again = CliRunner().invoke(main, capture)
    assert (result.exit_code, files) == (0, {"line-1.cap": b"GLU 5.4\r", "line-2.cap": b"CREA 70\r"}), result.output
    assert [line.split(" ")[0] for line in result.output.splitlines()] == [
        f"{tmp_path}/line-{at}.cap:" for at in (1, 2)
    ]
    assert "From 127.0.0.1:" in result.output
    assert (again.exit_code, "is there already" in again.output) == (EXIT_USAGE, True)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("line*.cap")} == files

"""A FHIR server in memory: reads, and transactions that are carried out whole or not at all. References must lead somewhere, as at servers that people run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from hl7.convert.json_text import dumps, loads


class Refused(Exception):
    """The transaction is not carried out."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class FhirStore:
    """`resources` by "Type/id", with numbers as they were sent; `requests`: method and path of each; `answers`: statuses to give before it looks at all; `refusal`:
    of every transaction; `deleted`: names that were; `ids`: X-Request-Id of each transaction; `breaks_off`: of what is read, half comes.
    """

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, int] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.refusal = 0
        self.breaks_off = False
        self.deleted: set[str] = set()
        self.ids: list[str] = []
        self.url = ""
        self._lock = threading.Lock()

    def handle(self, method: str, path: str, body: bytes) -> int:
        with self._lock:
            self.requests.append((method, path))
            if self.answers:
                return self.answers.pop(0)
            if method == "GET":
                return 200 if path in self.resources else 410 if path in self.deleted else 404
            self.bodies.append(loads(body))
            if self.refusal:
                return self.refusal
            if path == "$process-message":
                return 200
            try:
                return self.transaction(self.bodies[-1])
            except Refused as refused:
                return refused.status

    def transaction(self, bundle: dict[str, Any]) -> int:
        if bundle["type"] != "transaction":
            raise Refused(400)
        made = dict(self.resources)
        for entry in bundle["entry"]:
            request, resource = entry["request"], entry["resource"]
            if request["url"] != f"{resource['resourceType']}/{resource['id']}" or request["method"] != "PUT":
                raise Refused(400)
            if request.get("ifNoneMatch") == "*" and request["url"] in self.resources:
                raise Refused(412)
            made[request["url"]] = resource
        for entry in bundle["entry"]:
            for reference in references(entry["resource"]):
                if reference not in made:
                    raise Refused(409)
        for entry in bundle["entry"]:
            name = entry["request"]["url"]
            self.versions[name] = self.versions.get(name, 0) + (made[name] != self.resources.get(name))
        self.resources = made
        self.deleted -= set(made)
        return 200

    def delete(self, name: str) -> dict[str, Any]:
        """As a person at the server does."""
        self.deleted.add(name)
        return self.resources.pop(name)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.resources.values() if each["resourceType"] == kind]

    @contextmanager
    def serving(self) -> Iterator[Self]:
        """On loopback."""
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                path = self.path.removeprefix("/fhir").lstrip("/")
                if self.command == "POST":
                    store.ids.append(self.headers["X-Request-Id"])
                status = store.handle(self.command, path, body)
                answer = dumps(store.resources[path]).encode() if (self.command, status) == ("GET", 200) else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer[: len(answer) // 2] if store.breaks_off else answer)
                self.close_connection = self.close_connection or store.breaks_off

            do_GET = do_POST = _any  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}/fhir"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def references(value: Any) -> Iterator[str]:
    """Every literal reference in a resource."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)

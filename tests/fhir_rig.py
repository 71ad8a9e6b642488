"""A node with a FHIR feed, raw HTTP by hand, and what lies in its outbox: for the tests of the FHIR endpoint."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync.header import CONDITIONS, METHOD, PATH
from tests.gateway_rig import Realm
from tests.node_rig import Feed, Node, Seen, running
from tests.raw_rig import Raw

JSON, XML = "application/fhir+json", "application/fhir+xml"
PATIENT = {"resourceType": "Patient", "id": "test-1", "name": [{"text": "مريض تجريبي", "family": "Test"}]}
OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "test"},
    "valueQuantity": {"value": 1},
}
PATIENT_XML = '<Patient xmlns="http://hl7.org/fhir"><id value="test-1"/><name><text value="مريض تجريبي"/></name></Patient>'.encode()
MESSAGE = {
    "resourceType": "Bundle", "id": "envelope-1", "type": "message",
    "entry": [{"resource": {"resourceType": "MessageHeader", "id": "message-1", "eventUri": "urn:test", "source": {"endpoint": "urn:test"}}}],
}  # fmt: skip
DOCUMENT = {
    "resourceType": "Bundle", "type": "document", "identifier": {"system": "urn:test", "value": "document-1"},
    "entry": [{"resource": {"resourceType": "Composition", "id": "c", "title": "Test"}}],
}  # fmt: skip


def bundle(*entries: tuple[str, str, dict | None], kind: str = "transaction") -> dict[str, Any]:
    """A Bundle of (method, url, resource)."""
    found = [
        {"request": {"method": method, "url": url}, **({"resource": resource} if resource else {})}
        for method, url, resource in entries
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": found}


@dataclass
class FhirFeed(Feed):
    """A FHIR feed of the configuration."""

    lines: str = ""

    def text(self) -> str:
        return super().text().replace('kind = "mllp"', 'kind = "fhir"')

    @property
    def base(self) -> str:
        return f"http://{self.listen[0]}:{self.port}/fhir"


@dataclass
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    lines: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def issues(self) -> list[dict[str, Any]]:
        assert self.json["resourceType"] == "OperationOutcome"
        return self.json["issue"]

    @property
    def codes(self) -> list[str]:
        return [issue.get("diagnostics", "") for issue in self.issues]

    @property
    def position(self) -> tuple[str, int, int]:
        stream, epoch, seq = self.headers["wasl-record"].split("/")
        return stream, int(epoch), int(seq)


class Http(Raw):
    """One raw connection: what is sent is what the test says."""

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        """A request; `path` is below /fhir unless it begins with //."""
        self.write(request(method, path, body, **headers))

    def answer(self) -> Answer:
        """The next answer. ConnectionError where the node closes first."""
        head, self._read = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        status, length = int(first.split(" ")[1]), int(headers.get("content-length", "0"))
        while len(self._read) < length and status != 304:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return Answer(status, headers, body, lines)

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        self.send(method, path, body, **headers)
        return self.answer()

    def is_closed(self) -> bool:
        """Wait for the node to close; False where it sends something instead."""
        try:
            return not self._read and not self.socket.recv(1)
        except ConnectionError:
            return True

    def _until(self, mark: bytes) -> tuple[bytes, bytes]:
        while mark not in self._read:
            self._more()
        head, _, rest = self._read.partition(mark)
        return head, rest

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed without an answer")
        self._read += data


def request(method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """The bytes of a request; a header's name is written with _ for -, and None leaves out what would stand there."""
    named = {"host": "test", **({"content-type": JSON, "content-length": str(len(body))} if body is not None else {})}
    named.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value is not None)
    target = path[1:] if path.startswith("//") else f"/fhir{path}"
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + (body or b"")


def dumped(resource: Any) -> bytes:
    return json.dumps(resource, ensure_ascii=False).encode()


def seen_request(seen: Seen) -> tuple[str, str, str]:
    """Method, path and conditions in the particulars."""
    found = seen.particulars
    return found[METHOD], found[PATH], found.get(CONDITIONS, "")


@contextmanager
def fhir_node(
    realm: Realm, folder: Path, *, lines: str = "", tls: str = "", before: str = "", **options: Any
) -> Iterator[Node]:
    """A running node with one FHIR feed named `app`."""
    feed = FhirFeed("app", lines=lines, tls=tls)
    with running(Node(realm, folder, feeds=[feed], **options), before=before) as node:
        yield node


def connect(node: Node, **options: Any) -> Http:
    return Http(node.feeds[0].address, **options)

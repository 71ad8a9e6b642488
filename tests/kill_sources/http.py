"""FHIR and SOAP: one request on a connection each, under an id of its own; a repeat bears the same."""

import json
from typing import ClassVar

from tests.fhir_rig import OBSERVATION, Answer, FhirFeed, Http, dumped
from tests.kill_rig import Caller, LoopError, Row, Source
from tests.kill_sources.words import NAMES
from tests.node_rig import Feed
from tests.soap_rig import SOAP, Heard, SoapFeed, envelope, post


class Client(Caller):
    """Makes a message under an id, sends it, and knows a success."""

    def make(self, number: int) -> bytes:
        return self.message(f"k-{self.number}-{number}")

    def hand_over(self, data: bytes) -> bool:
        with Http(self.address) as http:
            answer = self.send(http, data)
        if not self.is_success(answer):
            raise LoopError(f"{answer}")
        return True

    def message(self, name: str) -> bytes:
        """One that bears this id."""
        raise NotImplementedError

    def send(self, http: Http, data: bytes) -> Answer:
        """Send it and read the answer."""
        raise NotImplementedError

    def is_success(self, answer: Answer) -> bool:
        """Whether it is the acknowledgement."""
        raise NotImplementedError


class App(Client):
    """FHIR over HTTP; 201 is the acknowledgement."""

    def message(self, name: str) -> bytes:
        return dumped({**OBSERVATION, "id": name, "note": [{"text": self.dice.choice(NAMES)}]})

    def send(self, http: Http, data: bytes) -> Answer:
        return http.call("POST", "/Observation", data, X_Request_Id=json.loads(data)["id"])

    def is_success(self, answer: Answer) -> bool:
        return answer.status == 201


class Submitter(Client):
    """SOAP; a success in the answer is the acknowledgement."""

    def message(self, name: str) -> bytes:
        return envelope(message_id=f"urn:uuid:{name}")

    def send(self, http: Http, data: bytes) -> Answer:
        return post(http, data, SOAP)

    def is_success(self, answer: Answer) -> bool:
        return answer.status == 200 and Heard(answer).status == "Success"


class Web(Source):
    """Two clients of one feed, known by the id that they gave."""

    kind: ClassVar[type[Feed]]
    client: ClassVar[type[Client]]

    def __init__(self, seed: str) -> None:
        feed = self.kind(self.name)
        super().__init__(feed, [self.client(n, seed, feed.address) for n in range(2)])

    def whose(self, row: Row) -> int:
        return int(self.name_in(row).split("-")[-2])

    def name_in(self, row: Row) -> str:
        """The id that its client gave it."""
        return row.control_id


class Fhir(Web):
    name, kind, client = "fhir", FhirFeed, App

    def name_in(self, row: Row) -> str:
        return str(row.document["id"])


class Soap(Web):
    name, kind, client = "soap", SoapFeed, Submitter

"""Sends the simulated hospital's first messages to a feed. Run: python send_hospital.py PORT COUNT"""

import json
import sys
from datetime import UTC, datetime

from node.tools.hospital import Hospital
from node.tools.mllp_client import MllpClient


def main(port: int, count: int) -> None:
    hospital = Hospital(1)
    with MllpClient(("127.0.0.1", port)) as client:
        answers = [client.send(hospital.next_message(now=datetime(2026, 1, 1, tzinfo=UTC)).raw) for _ in range(count)]
    print(json.dumps({"accepted": answers.count("AA")}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

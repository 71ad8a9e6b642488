"""The peers' parse of the same messages, in the peers' environment. What a peer refuses costs it what refusing costs. Run: python er7_peers.py NAME FILE SECONDS"""

import json
import sys
import time
from pathlib import Path


def load(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def parser(name: str):
    if name == "python-hl7":
        import hl7

        return hl7.parse
    if name == "hl7apy":
        from hl7apy.consts import VALIDATION_LEVEL
        from hl7apy.parser import parse_message

        return lambda text: parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
    import hl7lw

    reader = hl7lw.Hl7Parser()
    return lambda text: reader.parse_message(text)


def main(name: str, path: Path, seconds: float) -> None:
    parse = parser(name)
    texts = [raw.decode("utf-8", "replace") for raw in load(path)]
    taken, spent, accepted, done = [], 0.0, 0, 0
    while spent < seconds or not done:
        for text in texts:
            began = time.process_time()
            try:
                parse(text)
                ok = True
            except Exception:
                ok = False
            took = time.process_time() - began
            spent += took
            if ok:
                accepted += 1
                taken.append(took)
        done += len(texts)
    print(json.dumps({"per_s": len(taken) / sum(taken), "accepted": accepted, "tried": done}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))

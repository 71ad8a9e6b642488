"""One large body over a thin link that is cut again and again. Prints one JSON line.

Run: python large_body.py SCRATCH [MIB] [BYTES_PER_S] [CUT_EVERY_S] [image|text|noise]     an image is base64, a quarter of which compresses away; noise does
not compress: all of ISO 8859-1 that may stand in a field, by a die; text as hospitals send it does
"""

import base64
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import lanes
from lanes import Bench, ask, message

from node.tools.hospital import Hospital

MIB = 1024 * 1024
NOISE = bytes(
    each for each in (*range(0x20, 0x7F), *range(0xA0, 0x100)) if each not in b"|^~\\&"
)  # 7.45 bits in a byte


def body(octets: int, kind: str) -> bytes:
    if kind == "image":
        text = base64.b64encode(Random(7).randbytes(octets * 3 // 4))
    elif kind == "noise":
        text = Random(7).randbytes(octets).translate(bytes(NOISE[each % len(NOISE)] for each in range(256)))
    else:
        hospital, parts = Hospital(7), []
        while (sum(map(len, parts[-1000:])) and sum(map(len, parts)) < octets) or not parts:
            parts += [
                hospital.next_message(now=datetime(2026, 1, 1, tzinfo=UTC))
                .raw.replace(b"\r", b"\\.br\\")
                .replace(b"|", b"\\F\\")
                for _ in range(1000)
            ]
        text = b"".join(parts)[:octets]
    head = message(1).replace(b"ORU^R40", b"MDM^T02")
    if kind == "noise":
        head = head.replace(b"UNICODE UTF-8", b"8859/1")
    return head + b"OBX|2|ED|SCAN^Test||" + text + b"\r"


def main(scratch: Path, mib: float, rate: float, cut_every_s: float, kind: str) -> dict[str, Any]:
    lanes.RATE = rate
    raw = body(int(mib * MIB) - 1024, kind)
    bench = Bench(scratch / f"large-{kind}-{time.time_ns()}", [raw])
    with bench.running():
        began = cut_at = time.monotonic()
        cuts = 0
        while bench.receipted("archive")[0] < 1:
            if time.monotonic() - cut_at >= cut_every_s:
                bench.link.cut()
                cuts, cut_at = cuts + 1, time.monotonic()
            time.sleep(0.05)
        took = time.monotonic() - began
        packed = sum(path.stat().st_size for path in bench.folder.glob("ledger-*/uploads/*/*"))
        lane = ask(bench.data, "status")["link"]["lanes"]["bulk"]
        up = bench.link.octets_up
    return {
        "body_bytes": len(raw), "packed_bytes": packed, "rate_bytes_per_s": rate, "cut_every_s": cut_every_s, "cuts": cuts, "took_s": round(took, 1),
        "wire_bytes_up": up, "wire_over_packed": round(up / max(1, packed), 3), "lane": lane,
    }  # fmt: skip


if __name__ == "__main__":
    more = sys.argv[2:]
    print(
        json.dumps(
            main(
                Path(sys.argv[1]),
                float(more[0]) if more else 16,
                float(more[1]) if len(more) > 1 else 8000.0,
                float(more[2]) if len(more) > 2 else 60.0,
                more[3] if len(more) > 3 else "image",
            )
        )
    )

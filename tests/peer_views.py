"""Other people's views of messages, for tests/compare_hl7_views.py. Runs in peers/py alone: `python -I tests/peer_views.py hl7|hl7apy`.

Reads {"path", "text"} a line, writes {"path", "error", "rows"} a line; a row is a segment's name and [field, repetition, component, subcomponent, text] of each leaf; hl7apy's are whole repetitions.
"""

import json
import signal
import sys

SECONDS_MAX = 20  # for one message: hl7apy has needed four for 8 kB


def rows_of_hl7(text):
    import hl7

    for segment in hl7.parse(text):
        leaves = []
        for number, field in enumerate(segment):
            if number == 0:
                continue
            for at, repetition in enumerate([field] if isinstance(field, str) else field, 1):
                for component, parts in enumerate([repetition] if isinstance(repetition, str) else repetition, 1):
                    for below, part in enumerate([parts] if isinstance(parts, str) else parts, 1):
                        leaves.append([number, at, component, below, str(part)])
        yield [str(segment[0]), leaves]


def number_of(name):
    return int(name.rpartition("_")[2]) if name and name.rpartition("_")[2].isdigit() else 0


def rows_of_hl7apy(text):
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.parser import parse_message

    message = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
    for segment in message.children:
        leaves, seen = [], {}
        for field in segment.children:
            number = number_of(field.name)
            seen[number] = at = seen.get(number, 0) + 1
            leaves.append([number, at, 0, 0, field.to_er7()])
        yield [segment.name, leaves]


def overdue(signum, frame):
    raise TimeoutError


def main():
    rows_of = {"hl7": rows_of_hl7, "hl7apy": rows_of_hl7apy}[sys.argv[1]]
    signal.signal(signal.SIGALRM, overdue)
    for line in sys.stdin:
        given = json.loads(line)
        signal.alarm(SECONDS_MAX)
        try:
            told = {"error": "", "rows": list(rows_of(given["text"]))}
        except BaseException as error:
            told = {"error": type(error).__name__, "rows": []}
        signal.alarm(0)
        print(json.dumps({"path": given["path"], **told}), flush=True)


main()

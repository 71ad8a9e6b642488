"""What the worker says of the signatures of one document: a row for each, for so many as it judges. For the worker alone."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hl7.signatures import MARKS_MAX

Row = list[str]  # result, kind, what it covers, why, what else is to be known
T = TypeVar("T")


def judge_most(found: Sequence[T], own: T | None, judge: Callable[[T], Row]) -> list[Row]:
    """Rows of as many as are told of a message, in the order in which they stand; of the root's own wherever it stands; and how many were left."""
    chosen = [*found[:MARKS_MAX], *(each for each in found[MARKS_MAX:] if each is own)]
    rows = [judge(each) for each in chosen]
    left = len(found) - len(chosen)
    if left:
        rows.append(
            ["unknown", "", "", f"{left} more were not judged: {MARKS_MAX} are the most, and the root's own", ""]
        )
    return rows

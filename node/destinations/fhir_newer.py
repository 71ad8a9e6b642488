"""Whether what a FHIR server has of a resource was written by a later message of the same stream than the one that is sent again."""

import re
from dataclasses import replace
from typing import Final

from hl7.convert.json_text import loads
from hl7.convert.result import Origin

# epoch, seq and, of a record that holds several messages, which of them from the second on (hl7.convert.result.Origin); some servers add "#" and an id
_PLACE: Final = re.compile(r"([0-9]{1,20})/([0-9]{1,20})(?:/([0-9]{1,20}))?(?:#.*)?", re.DOTALL)


def is_newer(resource: bytes, origin: Origin) -> bool:
    """Tell it by the resource's `meta.source`, which every conversion writes. What another stream or another system wrote is not known to be."""
    stream = replace(origin, epoch=0, seq=0, part=0).uri.removesuffix("0/0")
    try:
        source = loads(resource)["meta"]["source"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    if not isinstance(source, str) or not source.startswith(stream):
        return False
    place = _PLACE.fullmatch(source, len(stream))
    return place is not None and tuple(int(each or 0) for each in place.groups()) > (
        origin.epoch,
        origin.seq,
        origin.part,
    )

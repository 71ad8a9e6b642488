"""Whether what a FHIR server has of a resource was written by a later record of the same stream than the one that is sent again."""

from dataclasses import replace

from hl7.convert.json_text import loads
from hl7.convert.result import Origin


def is_newer(resource: bytes, origin: Origin) -> bool:
    """Tell it by the resource's `meta.source`, which every conversion writes. What another stream or another system wrote is not known to be."""
    stream = replace(origin, epoch=0, seq=0, part=0).uri.removesuffix("0/0")
    try:
        source = loads(resource)["meta"]["source"]
        if not source.startswith(stream):
            return False
        place = tuple(
            map(int, source.partition("#")[0].removeprefix(stream).split("/"))
        )  # some servers add "#" and an id
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return len(place) > 1 and place[:2] > (origin.epoch, origin.seq)

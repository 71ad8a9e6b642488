"""CBOR looked over before it is decoded: what would cost more than its bytes never becomes an object."""

_TAG, _STRINGS = 6, {2, 3}  # major types, RFC 8949 section 3.1


def check_items(data: bytes, most: int) -> None:
    """Raise ValueError for a tag, or for more than so many items. What is malformed is left to the decoder, which must not take indefinite lengths.

    Nothing of ours bears a tag. A decoder makes values of the ones it knows: a decimal fraction of a megabyte, or a regular
    expression, keeps it busy for minutes, and all threads with it.
    """
    at = items = 0
    while at < len(data):
        major, short = data[at] >> 5, data[at] & 31
        at += 1
        if 24 <= short <= 27:
            wide = 1 << (short - 24)
            short = int.from_bytes(data[at : at + wide], "big")
            at += wide
        if major == _TAG:
            raise ValueError("a tag")
        if major in _STRINGS:  # their content is no item
            at += short
        items += 1
        if items > most:
            raise ValueError("too many items")

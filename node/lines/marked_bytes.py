"""What PARMRK makes of a serial line's bytes, undone: 0xFF 0x00 X is X with a wrong parity or stop bit, 0xFF 0xFF is 0xFF (termios(3))."""

MARK = 0xFF


class Unmarker:
    """Takes marked bytes in any pieces, gives what came on the line and how many of it were wrong. A break counts as one, and is 0x00."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a mark whose end has not come: two bytes at most

    def receive(self, data: bytes) -> tuple[bytes, int]:
        """The line's bytes, and the count of those among them that came wrong."""
        data, self._rest = self._rest + data, b""
        if MARK not in data:
            return data, 0
        plain, marks, at = bytearray(), 0, 0
        while (found := data.find(MARK, at)) >= 0:
            plain += data[at:found]
            mark = data[found : found + 3]
            if mark in {b"\xff", b"\xff\x00"}:
                self._rest, at = mark, len(data)
                break
            if mark[1] == 0:
                plain.append(mark[2])
                marks += 1
                at = found + 3
            else:  # 0xFF 0xFF; another byte after 0xFF is no mark of this kernel, and is kept as it came
                plain += mark[:1] if mark[1] == MARK else mark[:2]
                at = found + 2
        plain += data[at:]
        return bytes(plain), marks

"""A request's body, bounded before it is read: by its announced length, and in how long it may stand still."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from gateway.problems import Problem

BODY_IDLE_S_MAX = 60.0  # no byte of a body for so long: the link is gone; the node comes again


def content_length(request: Request, most: int) -> int:
    """The body's length as announced. Raises Problem 411 where it is not, 413 where it is above `most`."""
    announced = request.headers.get("content-length", "")
    if not announced.isascii() or not announced.isdigit():
        raise Problem(411, "length-required", "Content-Length is missing")
    if len(announced) > len(str(most)) or int(announced) > most:
        raise Problem(413, "too-large", f"at most {most} bytes")
    return int(announced)


async def read_body(request: Request, length: int) -> bytes:
    """The whole body. Raises Problem 408 where it ends early, or no byte comes for too long."""
    body = bytearray()
    chunks = request.stream().__aiter__()
    try:
        while True:
            async with asyncio.timeout(BODY_IDLE_S_MAX):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            body += chunk
    except TimeoutError:
        raise Problem(
            408, "disconnected", "no byte of the body for too long", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise Problem(408, "disconnected", "the body did not arrive") from None
    if len(body) != length:
        raise Problem(408, "disconnected", "the body did not arrive")
    return bytes(body)

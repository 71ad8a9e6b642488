"""Answers that are not 200: problem+json (RFC 9457) with a `code`, so that a node can tell a verdict from a broken path."""

import json
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_CODES = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 401: "unauthorized"}


class Problem(Exception):
    """An answer as an exception. `members` stand in the JSON beside code and detail."""

    def __init__(
        self, status: int, code: str, detail: str, *, members: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.members, self.headers = dict(members or {}), dict(headers or {})

    def response(self) -> Response:
        """The answer's bytes."""
        body = {"type": "about:blank", "status": self.status, "code": self.code, "detail": self.detail, **self.members}
        return Response(json.dumps(body), self.status, {**self.headers, "Cache-Control": "no-store"}, MEDIA_TYPE)


def busy(detail: str, *, window: int, wait_s: int = 1) -> Problem:
    """503: come again after so many seconds, with at most so many bytes."""
    return Problem(503, "busy", detail, members={"window": window}, headers={"Retry-After": str(wait_s)})


async def on_problem(_request: Request, error: Exception) -> Response:
    """Answer a Problem."""
    if not isinstance(error, Problem):
        raise TypeError from error
    return error.response()


async def on_http(_request: Request, error: Exception) -> Response:
    """Answer what the router refuses, in the same form."""
    if not isinstance(error, HTTPException):
        raise TypeError from error
    code = _CODES.get(error.status_code, "refused")
    return Problem(error.status_code, code, error.detail, headers=error.headers).response()


async def on_fault(_request: Request, _error: Exception) -> Response:
    """Answer our own fault: no verdict, so a node takes it as a failure of the path and comes again."""
    return Problem(500, "internal", "the gateway failed; try again").response()

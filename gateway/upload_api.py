"""The endpoints of uploads: PUT and HEAD /v1/uploads/{id}/{offset} (docs/wire.md, section 6.1)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.budget import Budget
from gateway.errors import GatewayFull, UploadGap, UploadQuota
from gateway.problems import Problem, busy
from gateway.uploads import Uploads
from sync.errors import BadUpload
from sync.upload import ID, UPLOAD_BYTES_MAX

SIZE_HEADER = "Wasl-Upload-Size"
FULL_WAIT_S = 300  # until another upload of the node is used or old, or people made room


@dataclass(slots=True)
class Fetched:
    """What one batch takes of its node's uploads."""

    uploads: Uploads
    node: str
    names: list[str] = field(default_factory=list)

    def __call__(self, commitment: bytes, digest: bytes, body_bytes: int) -> bytes:
        """The body of an upload. Raises BadUpload."""
        self.names.append(commitment.hex())
        return self.uploads.body(self.node, commitment.hex(), digest, body_bytes)

    def used(self) -> None:
        """The batch is committed."""
        for name in self.names:
            self.uploads.used(self.node, name)


class UploadApi:
    """Parts of bodies, one after the other on one thread: a part is synced before it is answered."""

    def __init__(self, uploads: Uploads, budget: Budget) -> None:
        self._uploads, self._budget = uploads, budget
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="uploads")

    def fetch(self, node: str) -> Fetched:
        """How a batch of this node gets its uploads."""
        return Fetched(self._uploads, node)

    async def sweep(self) -> int:
        """Delete what no part came to for too long; how many."""
        return await self._run(self._uploads.sweep)

    async def size(self, request: Request, node: str) -> Response:
        """HEAD: how much of it is here durably."""
        name, _ = _address(request)
        held = await self._run(lambda: self._uploads.size(node, name))
        return Response(status_code=200, headers={SIZE_HEADER: str(held)})

    async def put(self, node: str, request: Request, part: bytes) -> Response:
        """PUT: append a part."""
        name, offset = _address(request)
        try:
            held = await self._run(lambda: self._uploads.write(node, name, offset, part))
        except UploadGap as gap:
            raise Problem(409, "rewind", "the upload does not end there", members={"size": gap.size}) from gap
        except (GatewayFull, UploadQuota) as error:
            raise busy(str(error), window=self._budget.window, wait_s=FULL_WAIT_S) from error
        return JSONResponse({"size": held})

    async def _run(self, work: Callable[[], int]) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _address(request: Request) -> tuple[str, int]:
    name, offset = request.path_params["id"], request.path_params["offset"]
    if not ID.fullmatch(name) or offset > UPLOAD_BYTES_MAX:
        raise Problem(422, "bad-upload", "no such upload or offset")
    return name, offset


def spoilt(error: BadUpload) -> Problem:
    """The node starts this upload over."""
    return Problem(422, "bad-upload", str(error))

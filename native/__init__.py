"""Hot kernels: functions of bytes, each with a pure-Python twin that is its specification. They know grammars of bytes,
never a meaning; nothing here opens, waits, or keeps state. May import: the standard library.

WASL_KERNELS=auto|cython|python names the implementation once, at import; a named one that is missing refuses to start.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final

from native._pure import BARE, CUT, FRAME, NOISE, Path, Value

_MODULES: Final = {"cython": "native._kernels", "python": "native._pure"}


def _choose(wanted: str) -> tuple[str, ModuleType]:
    """Name and module of the implementation that `wanted` asks for; ImportError where it cannot be had."""
    if wanted == "auto":
        try:
            return "cython", import_module(_MODULES["cython"])
        except ImportError:
            return "python", import_module(_MODULES["python"])
    if wanted not in _MODULES:
        message = f"WASL_KERNELS={wanted!r} is unknown: use auto, cython or python"
        raise ImportError(message)
    try:
        return wanted, import_module(_MODULES[wanted])
    except ImportError as error:
        message = f"WASL_KERNELS={wanted} but {_MODULES[wanted]} cannot be loaded ({error}): build it, or use auto"
        raise ImportError(message) from error


IMPLEMENTATION: str
"""Which one was chosen: "cython" or "python"."""

if TYPE_CHECKING:  # one set of types for both; the twins' test holds the compiled stub to it
    from native import _pure as _chosen
else:
    IMPLEMENTATION, _chosen = _choose(os.environ.get("WASL_KERNELS", "auto"))

er7_index = _chosen.er7_index
er7_read = _chosen.er7_read
er7_spans = _chosen.er7_spans
er7_template = _chosen.er7_template
mllp_scan = _chosen.mllp_scan
cbor_map = _chosen.cbor_map
body_commitment = _chosen.body_commitment
leaf_hashes = _chosen.leaf_hashes
frontier_append = _chosen.frontier_append
frontier_root = _chosen.frontier_root
seal_group = _chosen.seal_group
pack_rows = _chosen.pack_rows
json_text = _chosen.json_text

__all__ = [
    "BARE",
    "CUT",
    "FRAME",
    "IMPLEMENTATION",
    "NOISE",
    "Path",
    "Value",
    "body_commitment",
    "cbor_map",
    "er7_index",
    "er7_read",
    "er7_spans",
    "er7_template",
    "frontier_append",
    "frontier_root",
    "json_text",
    "leaf_hashes",
    "mllp_scan",
    "pack_rows",
    "seal_group",
]

"""The page's own files, held in memory: a handful, so that no request ever becomes a path on the disk."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file as it is served; `tag` changes with its content."""

    content: bytes
    media_type: str
    tag: str


def load() -> dict[str, Asset]:
    """Every servable file of `static/` by name; licences and notes stay behind."""
    assets = {}
    for path in sorted(STATIC.iterdir()):
        if path.suffix in TYPES:
            content = path.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:12]
            assets[path.name] = Asset(content=content, media_type=TYPES[path.suffix], tag=tag)
    return assets


def edition(assets: dict[str, Asset]) -> str:
    """One tag for all files: an open page that sees another one reloads itself after an update of the node."""
    return hashlib.sha256("".join(asset.tag for asset in assets.values()).encode()).hexdigest()[:12]

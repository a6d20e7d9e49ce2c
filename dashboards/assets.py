"""The files that pages load: one stylesheet, one module, one icon, and the plotly.js that the plotly wheel carries.

Each has an address with a hash of its content, so browsers keep it for ever and a new version has a new address. The
big one is compressed once, with zstd (smaller than brotli here, and already a dependency) and gzip, into the cache
folder; a browser that takes neither gets it plain.
"""

import gzip
import hashlib
import importlib.util
import re
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backports import zstd

from cachescope.errors import SettingsError
from dashboards.theme import tokens_css
from store.settings import get_settings

STATIC = Path(__file__).parent / "static"
PREFIX = "/assets/"
_MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Asset:
    """One file that pages load."""

    name: str
    """Its stem, the hash of its content, its ending."""
    content: bytes
    media_type: str

    @property
    def path(self) -> str:
        """Its address on this server."""
        return PREFIX + self.name


@cache
def asset(name: str) -> Asset:
    """One of the assets by its plain name: `page.css`, `page.js`, `icon.svg`, `plotly.js`."""
    match name:
        case "plotly.js":
            content = _plotly_file().read_bytes()
        case "page.css":
            content = tokens_css().encode() + b"\n" + (STATIC / name).read_bytes()
        case _:
            content = (STATIC / name).read_bytes()
    stem, ending = Path(name).stem, Path(name).suffix
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(f"{stem}.{digest}{ending}", content, _MEDIA_TYPES[ending])


@cache
def guarded_styles() -> tuple[str, ...]:
    """The ids of the style elements that plotly.js would add to a page unless it finds an element of that id there.

    Its own has a fixed id; those of the libraries it carries are hashes, which change with its version.
    """
    found = re.findall(rb'getElementById\("([0-9a-f]{64})"\)\)\{var', asset("plotly.js").content)
    return ("plotly.js-style-global", *sorted({match.decode() for match in found}))


def find(path_name: str) -> Asset | None:
    """The asset at an address; None where there is none or its hash is that of another version."""
    name = path_name.partition(".")[0] + Path(path_name).suffix
    if name not in ("page.css", "page.js", "icon.svg", "plotly.js"):
        return None
    found = asset(name)
    return found if found.name == path_name else None


def compressed(found: Asset, accepted: str) -> tuple[bytes, str | None]:
    """The content in the best encoding that an Accept-Encoding header names, and the name of that encoding."""
    names = {part.partition(";")[0].strip().lower() for part in accepted.split(",") if "q=0" not in part.split(";")[1:]}
    for encoding in ("zstd", "gzip"):
        if encoding in names:
            return _encoded(found.name, encoding), encoding
    return found.content, None


@cache
def _encoded(name: str, encoding: str) -> bytes:
    """The compressed content; written to the cache folder, so that the next start of the server finds it."""
    found = find(name)
    if found is None:
        raise KeyError(name)
    folder = get_settings().data / "cache"
    kept = folder / f"{name}.{'zst' if encoding == 'zstd' else 'gz'}"
    with _lock:
        try:
            return kept.read_bytes()
        except OSError:
            content = (
                zstd.compress(found.content, 19) if encoding == "zstd" else gzip.compress(found.content, 9, mtime=0)
            )
        _keep(kept, content)
    return content


def _keep(kept: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; a cache folder that cannot be written costs only time."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as part:
            part.write(content)
        Path(part.name).replace(kept)
    except OSError:
        return


def warm_up() -> threading.Thread:
    """Compress in a thread what takes long, before the first reader asks for it."""
    thread = threading.Thread(target=_compress_all, name="assets-warm-up", daemon=True)
    thread.start()
    return thread


def _compress_all() -> None:
    for encoding in ("zstd", "gzip"):
        compressed(asset("plotly.js"), encoding)


def _plotly_file() -> Path:
    # Looked up without importing plotly, which would cost the start of the server a tenth of a second.
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise SettingsError("plotly is not installed. Install the server's packages: pip install 'cachescope[server]'.")
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"

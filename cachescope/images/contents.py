"""What lies in the layers of an image: files written twice or deleted later, the largest files, caches left behind.

Layers are streamed entry by entry and nothing is unpacked to a disk. What is kept of a file is its name and size, up to
a number of files; past it the figures are a lower bound and say so.
"""

import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cachescope.images.tars import FILE, FOLDER, SYMBOLIC_LINK, Pieces, Source, Tar, Unpacked

MOST_FILES = 400_000
MOST_NAME_BYTES = 48 * 1024 * 1024
MOST_LOOKS = 100_000_000
"""How many paths are compared with hidden folders at most: a few minutes."""
MOST_SHOWN = 20
LARGEST_LAYER = 64 << 30
"""A layer that unpacks to more is not read to its end."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_CACHES: tuple[tuple[str, str, str], ...] = (
    # what it is called, where it lies (as a pattern on the path without its first stroke), how to be rid of it
    (
        "apt lists",
        r"var/lib/apt/lists/(?!(?:auxfiles|partial)/?$|lock$)",
        "rm -rf /var/lib/apt/lists/* in the same RUN",
    ),
    ("apt archives", r"var/cache/apt/", "apt-get clean in the same RUN, or a cache mount"),
    ("apk cache", r"(?:var/cache/apk|etc/apk/cache)/", "apk add --no-cache"),
    ("dnf or yum cache", r"var/(?:cache|lib)/(?:dnf|yum|libdnf5)/", "dnf clean all in the same RUN"),
    ("zypper cache", r"var/cache/zypp/", "zypper clean --all in the same RUN"),
    ("pacman cache", r"var/cache/pacman/pkg/", "pacman -Scc --noconfirm in the same RUN"),
    ("pip cache", r"(?:[^/]+/){1,3}\.cache/pip/", "pip install --no-cache-dir, or a cache mount"),
    ("uv cache", r"(?:[^/]+/){1,3}\.cache/uv/", "UV_NO_CACHE=1, or a cache mount"),
    ("poetry cache", r"(?:[^/]+/){1,3}\.cache/pypoetry/", "a cache mount"),
    ("npm cache", r"(?:[^/]+/){1,3}\.npm/_cacache/", "npm cache clean --force in the same RUN, or a cache mount"),
    (
        "yarn cache",
        r"(?:usr/local/share/\.cache/yarn|(?:[^/]+/){1,3}\.cache/yarn|(?:[^/]+/){1,3}\.yarn/berry/cache)/",
        "yarn cache clean in the same RUN, or a cache mount",
    ),
    ("pnpm store", r"(?:[^/]+/){1,4}(?:\.pnpm-store|pnpm/store)/", "a cache mount"),
    ("Go build cache", r"(?:[^/]+/){1,3}\.cache/go-build/", "a cache mount"),
    ("Go module cache", r"(?:go|root/go)/pkg/mod/cache/", "a cache mount, or a stage of its own"),
    ("Cargo registry", r"(?:usr/local/cargo|(?:[^/]+/){1,2}\.cargo)/registry/", "a cache mount, or a stage of its own"),
    ("Maven repository", r"(?:[^/]+/){1,2}\.m2/repository/", "a cache mount, or a stage of its own"),
    ("Gradle cache", r"(?:[^/]+/){1,3}\.gradle/caches/", "a cache mount, or a stage of its own"),
    (
        "Composer cache",
        r"(?:[^/]+/){1,3}(?:\.composer/cache|\.cache/composer)/",
        "composer --no-cache, or a cache mount",
    ),
    ("NuGet packages", r"(?:[^/]+/){1,2}\.nuget/packages/", "a cache mount, or a stage of its own"),
    (
        "conda packages",
        r"(?:opt/conda|opt/miniconda3?|(?:[^/]+/){1,2}miniconda3)/pkgs/",
        "conda clean -afy in the same RUN",
    ),
    ("Bundler cache", r"usr/local/bundle/cache/", "rm -rf /usr/local/bundle/cache in the same RUN"),
)
_CACHE = re.compile("|".join(f"({pattern})" for _, pattern, _ in _CACHES))


@dataclass(frozen=True, slots=True, kw_only=True)
class WastedFile:
    """Bytes of a file that lie in one layer and are hidden by a later one."""

    path: str
    size_bytes: int
    layer: int
    """The layer that carries them, from 0 at the bottom."""
    hidden_by: int
    """The layer that overwrites or deletes it."""
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeFile:
    """One of the largest files that a container sees."""

    path: str
    size_bytes: int
    layer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftCache:
    """What a package manager left in the image."""

    name: str
    size_bytes: int
    files: int
    layer: int
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the layers of one platform hold."""

    wasted_bytes: int
    """Σ of file versions that a later layer overwrites or deletes, those in base layers apart."""
    base_wasted_bytes: int
    """The same, of files in layers of the base image."""
    wasted: tuple[WastedFile, ...]
    """The most bytes first."""
    largest: tuple[LargeFile, ...]
    caches: tuple[LeftCache, ...]
    rewritten: dict[tuple[int, int], int] = field(default_factory=dict)
    """Bytes by (layer that carries, layer that writes the same file again with the same size): a chown, a chmod."""
    files: int = 0
    complete: bool = True
    """False where there were too many files to remember, or a layer could not be read to its end."""


class ContentReader:
    """Takes in layers in any order and says at the end what they hold together."""

    def __init__(self, *, most_files: int = MOST_FILES) -> None:
        self._layers: dict[int, tuple[dict[str, int], list[str]]] = {}
        self._files_left = most_files
        self._name_bytes_left = MOST_NAME_BYTES
        self._complete = True
        self._looks_left = MOST_LOOKS
        self._next = 0
        self._live: dict[str, tuple[int, int]] = {}
        self._files = 0
        self._waste: list[tuple[int, int, str, int, bool]] = []
        self._waste_sums: dict[int, int] = {}
        self._rewritten: dict[tuple[int, int], int] = {}

    def read_layer(self, number: int, pieces: Iterable[bytes], *, cap_bytes: int = LARGEST_LAYER) -> int:
        """Stream one layer, packed or not, and return its unpacked size as `docker history` has it.

        That is the sizes of its files and the lengths of its symbolic links; hard links and folders weigh nothing.
        Raises UnreadableInputError for what is no layer, TooLargeError past the cap.
        """
        return self.read_plain_layer(number, Pieces(iter(Unpacked(pieces, cap_bytes))))

    def read_plain_layer(self, number: int, source: Source) -> int:
        """Read a layer that is not packed; a source that can jump over the contents of files is read in no time."""
        files: dict[str, int] = {}
        hidden: list[str] = []
        self._layers[number] = (files, hidden)
        total = 0
        try:
            for kind, name, size, _, _ in Tar(source, "layer"):
                if kind is FOLDER:
                    continue
                path = name.removeprefix("./").lstrip("/") if name[:1] in "./" else name
                folder, _, last = path.rpartition("/")
                if last.startswith(_WHITEOUT):
                    self._hide(hidden, folder, last)
                    continue
                before = files.get(path)
                if kind is FILE or kind is SYMBOLIC_LINK:
                    total += size - (before or 0)
                elif before is not None:
                    total -= before
                    size = 0
                if before is None:
                    if self._files_left <= 0 or self._name_bytes_left < len(path):
                        self._complete = False
                        continue
                    self._files_left -= 1
                    self._name_bytes_left -= len(path)
                files[path] = size
        except Exception:
            self._complete = False
            raise
        self._merge()
        return total

    def _hide(self, hidden: list[str], folder: str, last: str) -> None:
        if self._files_left <= 0:
            self._complete = False
            return
        self._files_left -= 1
        if last == _OPAQUE:
            hidden.append(f"{folder}/" if folder else "/")
        elif not last.startswith(".wh..wh."):
            name = last.removeprefix(_WHITEOUT)
            hidden.append(f"{folder}/{name}" if folder else name)

    def _merge(self) -> None:
        """Put layers on top of each other as far as all below are known, and forget them."""
        while self._next in self._layers:
            files, hidden = self._layers.pop(self._next)
            self._apply_whiteouts(hidden, self._next)
            for path, size in files.items():
                before = self._live.get(path)
                if before is not None:
                    self._lose(path, before, self._next, deleted=False)
                    if before[1] == size:
                        key = (before[0], self._next)
                        self._rewritten[key] = self._rewritten.get(key, 0) + size
                self._live[path] = (self._next, size)
            self._files += len(files)
            self._next += 1

    def _apply_whiteouts(self, hidden: list[str], number: int) -> None:
        folders = set()
        for path in hidden:
            before = self._live.pop(path, None)
            if before is not None:
                self._lose(path, before, number, deleted=True)
            else:
                folders.add(path.rstrip("/"))
        if not folders:
            return
        self._looks_left -= len(self._live)
        if self._looks_left < 0:
            self._complete = False  # thousands of layers that each hide folders
            return
        for path in [path for path in self._live if _is_below(path, folders)]:
            self._lose(path, self._live.pop(path), number, deleted=True)

    def _lose(self, path: str, before: tuple[int, int], number: int, *, deleted: bool) -> None:
        layer, size = before
        if not size:
            return
        self._waste_sums[layer] = self._waste_sums.get(layer, 0) + size
        item = (size, layer, path, number, deleted)
        if len(self._waste) < MOST_SHOWN:
            heapq.heappush(self._waste, item)
        else:
            heapq.heappushpop(self._waste, item)

    def report(self, base: Sequence[bool | None] = ()) -> Contents:
        """Say what the layers hold; `base` tells for each whether it came with the base image."""
        for number in sorted(self._layers):
            self._next = number  # a layer below could not be read: go on with what there is
            self._complete = False
            self._merge()
        is_base = {number for number, came in enumerate(base) if came}
        largest = heapq.nlargest(MOST_SHOWN, ((size, layer, path) for path, (layer, size) in self._live.items()))
        return Contents(
            wasted_bytes=sum(size for layer, size in self._waste_sums.items() if layer not in is_base),
            base_wasted_bytes=sum(size for layer, size in self._waste_sums.items() if layer in is_base),
            wasted=tuple(
                WastedFile(path=path, size_bytes=size, layer=layer, hidden_by=by, deleted=deleted)
                for size, layer, path, by, deleted in sorted(self._waste, reverse=True)
            ),
            largest=tuple(LargeFile(path=path, size_bytes=size, layer=layer) for size, layer, path in largest),
            caches=self._caches(is_base),
            rewritten=dict(self._rewritten),
            files=self._files,
            complete=self._complete,
        )

    def _caches(self, base: set[int]) -> tuple[LeftCache, ...]:
        found: dict[tuple[int, int], list[int]] = {}
        for path, (layer, size) in self._live.items():
            if layer in base or not size:
                continue
            if (match := _CACHE.match(path)) is not None and match.lastindex:
                sums = found.setdefault((match.lastindex - 1, layer), [0, 0])
                sums[0] += size
                sums[1] += 1
        left = [
            LeftCache(name=_CACHES[kind][0], size_bytes=size, files=files, layer=layer, cure=_CACHES[kind][2])
            for (kind, layer), (size, files) in found.items()
        ]
        return tuple(sorted(left, key=lambda one: -one.size_bytes)[:MOST_SHOWN])


def _is_below(path: str, folders: set[str]) -> bool:
    if "" in folders:
        return True
    at = path.find("/")
    while at >= 0:
        if path[:at] in folders:
            return True
        at = path.find("/", at + 1)
    return False

"""What BuildKit itself says of its cache keys: the answer of `/debug/cache/store`, read and compared.

A buildkitd started with `--save-cache-debug --debugaddr ADDRESS` keeps the plain text behind every digest of its cache
(since 0.24) and tells it at that address: of each step what it runs with which variables, of each COPY the files with
mode and digest, and which step stands on which. Asked with `Accept: application/json` it answers

    [{"id": 4, "parents": [{"input": 0, "digest": "sha256:…", "target": 15}, …], "debug": [{"digest": "sha256:…",
      "type": "string", "data": [{"type": 2, "data": "…"}], "subRecords": […]}]}, …]

The answer tells what is in the cache now, not which build put it there: only two of them, one taken after each build,
say what became another. Printed by `cmd/buildkitd/debug.go` of https://github.com/moby/buildkit; contents of files are
never in it.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from cachescope.dockerfile import Instruction
from cachescope.errors import UnreadableInputError
from cachescope.matching import normalize

MAX_BYTES = 64 * 1024 * 1024
"""An answer may be this long."""
MAX_CHAINS = 64
"""A step that stands on more different ones than this is not looked at."""
MAX_DEPTH = 400

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FLAGS = re.compile(r"^(?:--[\w-]{1,40}(?:=\S{1,400})?\s+)*")
_NO_ANSWER = (
    "The cache-debug output must be what buildkitd answers at /debug/cache/store when it is asked for JSON: "
    'curl -H "Accept: application/json" http://ADDRESS/debug/cache/store'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """What became another in the key of a step; all empty and not `is_same` never happens."""

    is_same: bool = False
    """Nothing did: the own part, the contents of the files and what it stands on."""
    variables: tuple[str, ...] = ()
    """Names of variables that have another value, came or went."""
    parts: tuple[str, ...] = ()
    """Other own parts, in words: `the command`, `the user`."""
    has_other_contents: bool = False
    files: tuple[str, ...] = ()
    """The files behind other contents, relative to the root of what is copied from, where they can be told."""
    has_other_place: bool = False
    """It stands on other steps or another image than before."""


@dataclass(slots=True)
class _Operation:
    """The own part of a key."""

    fields: dict[str, Any]
    contents: set[str] = field(default_factory=set)
    """Digests of the contents that it was keyed by."""
    selectors: set[str] = field(default_factory=set)
    """The paths of these contents."""
    chains: set[str] = field(default_factory=set)
    """What it was seen to stand on, each as a digest."""


@dataclass(frozen=True, slots=True)
class CacheKeys:
    """One answer of BuildKit, by the digest of what is asked to be done."""

    operations: Mapping[str, _Operation]
    contents: Mapping[str, Mapping[str, str]]
    """Per digest of contents the files below the selected path, each with what was hashed of it."""


def read_cache_keys(text: str) -> CacheKeys:
    """Read an answer of `/debug/cache/store`; raises UnreadableInputError for anything else."""
    try:
        records = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UnreadableInputError(_NO_ANSWER) from None
    if not isinstance(records, list) or not all(isinstance(r, dict) and "id" in r for r in records):
        raise UnreadableInputError(_NO_ANSWER)
    plain: dict[str, tuple[str, bytes]] = {}
    nodes: dict[int, dict[str, Any]] = {}
    for record in records:
        if isinstance(record["id"], int):
            nodes[record["id"]] = record
        _collect(record.get("debug"), plain)
    return _Reader(nodes, plain).read()


def _collect(records: Any, plain: dict[str, tuple[str, bytes]]) -> None:
    """Take the plain text of every digest, those within others too."""
    waiting = [records]
    while waiting:
        found = waiting.pop()
        for record in found if isinstance(found, list) else ():
            if not isinstance(record, dict) or not isinstance(record.get("digest"), str):
                continue
            frames = record.get("data")
            pieces = [
                _bytes(frame.get("data"))
                for frame in (frames if isinstance(frames, list) else ())
                if isinstance(frame, dict) and frame.get("type") == _DATA
            ]
            plain.setdefault(record["digest"], (str(record.get("type")), b"".join(pieces)))
            waiting.append(record.get("subRecords"))


_DATA = 2
"""A frame that holds text; others say how much was left out."""


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""


class _Reader:
    """The records of one answer, worked out together."""

    def __init__(self, nodes: Mapping[int, dict[str, Any]], plain: Mapping[str, tuple[str, bytes]]) -> None:
        self.nodes = nodes
        self.plain = plain
        self.operations: dict[str, _Operation] = {}
        self.contents: dict[str, Mapping[str, str]] = {}
        self._chains: dict[int, frozenset[str] | None] = {}

    def read(self) -> CacheKeys:
        for place, node in self.nodes.items():
            self._read_node(place, node)
        return CacheKeys(self.operations, self.contents)

    def _read_node(self, place: int, node: dict[str, Any]) -> None:
        for link in _links(node):
            digest = self._operation_of(link["digest"])
            fields = _fields(self.plain.get(digest, ("", b""))[1]) if digest else None
            if digest is None or fields is None:
                continue
            known = self.operations.setdefault(digest, _Operation(fields))
            chains = self._chains_of(place, 0)
            known.chains |= chains if chains is not None else {"", f"too many at {place}"}
            parent = self.nodes.get(link.get("target") or 0, {})
            selector = self.plain.get(str(link.get("selector")), ("", b""))[1]
            if selector and link.get("input"):
                known.selectors |= {part for part in selector.decode(errors="replace").split("\0") if part}
            files = self._files_of(parent.get("digest")) if not parent.get("random") else None
            if link.get("input") and files is not None:
                known.contents.add(parent["digest"])
                self.contents[parent["digest"]] = files

    def _operation_of(self, digest: str) -> str | None:
        """Return the digest of what a link asks for: the plain text of the link's own is `sha256:…@0`."""
        found = self.plain.get(digest)
        if found is not None and found[0] == "json":
            return digest
        inner = _DIGEST.match(found[1].decode(errors="replace")) if found is not None else None
        return inner[0] if inner is not None else None

    def _chains_of(self, place: int, depth: int) -> frozenset[str] | None:
        """Say what a record stands on through its first inputs, as digests; None where that is too much to say."""
        if place in self._chains:
            return self._chains[place]
        if depth > MAX_DEPTH:
            return None
        self._chains[place] = None  # a circle ends here
        node = self.nodes.get(place, {})
        found: set[str] = set()
        first = [link for link in _links(node) if not link.get("input")]
        lasting = [link for link in first if not self.nodes.get(link.get("target") or 0, {}).get("random")]
        for link in lasting or first:
            above = self._chains_of(link.get("target") or 0, depth + 1)
            if above is None or len(above) + len(found) > MAX_CHAINS:
                return None
            name = self._operation_of(link["digest"]) or link["digest"]
            found |= {_hash(f"{name} {chain}") for chain in above}
        if not found:
            # A source that is sent anew has a random key in each build; its contents have one of their own.
            found = {"session" if node.get("random") else str(node.get("digest"))}
        self._chains[place] = frozenset(found)
        return self._chains[place]

    def _files_of(self, digest: Any) -> Mapping[str, str] | None:
        """List the files behind a digest of contents; None for what is none."""
        kind, text = self.plain.get(digest, ("", b"")) if isinstance(digest, str) else ("", b"")
        inner = _DIGEST.match(text.decode(errors="replace")) if kind == "string" else None
        if inner is None or not text.endswith(b"@-1"):
            return None
        found: dict[str, str] = {}
        for number, part in enumerate(self.plain.get(inner[0], ("", b""))[1].split(b"\0")):
            name = part.decode(errors="replace")
            kind, listed = self.plain.get(name, ("", b""))
            found |= {f"{number}:{path}": mark for path, mark in _entries(listed)} if kind == "file-list" else {}
            found |= {f"{number}:": name} if name and kind != "file-list" else {}
        return found or None


def _links(node: dict[str, Any]) -> list[dict[str, Any]]:
    parents = node.get("parents")
    return [
        link
        for link in (parents if isinstance(parents, list) else ())
        if isinstance(link, dict) and isinstance(link.get("digest"), str)
    ]


def _entries(text: bytes) -> Iterable[tuple[str, str]]:
    """Yield the paths of a list of files, each with its digest: the one stands after the other without a border."""
    for piece in text.split(b"\0"):
        entry = piece.decode(errors="replace")
        at = entry.rfind("sha256:")
        if at >= 0:
            yield entry[:at].strip("/ "), entry[at:]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(text: bytes) -> dict[str, Any] | None:
    """Read what a step is asked to do: a command with its surroundings, or actions on files."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    if document.get("Type") == "buildkit.exec.v0" and isinstance(document.get("Exec"), dict):
        command = document["Exec"]
        meta = command.get("meta") or command.get("Meta")
        if isinstance(meta, dict):
            known = {str(key).lower(): value for key, value in meta.items()}
            rest = {key: value for key, value in command.items() if key.lower() != "meta"}
            return {"exec": known, "rest": rest, "platform": [document.get(k) for k in ("OS", "Arch", "Variant")]}
    if document.get("Type") == "buildkit.file.v0" and isinstance(document.get("Actions"), list):
        actions = []
        for action in document["Actions"]:
            try:
                actions.append(orjson.loads(_bytes(action)))
            except orjson.JSONDecodeError:
                return None
        return {"actions": actions} if all(isinstance(action, dict) for action in actions) else None
    return None


def compare_keys(before: CacheKeys, after: CacheKeys, lines: Sequence[Instruction]) -> KeyChange | None:
    """Say what became another in the key of a step between two answers, each taken after one of the builds.

    `lines` are the step as it is printed and, where it is known, as it is written. None where the answers do not tell:
    the step is not found, or there were several builds before that it could be held against.
    """
    old = {digest for digest, known in before.operations.items() if _is_step(known.fields, lines)}
    now = {digest for digest, known in after.operations.items() if _is_step(known.fields, lines)}
    new = now - old
    if not old or not now or len(new) > 1:
        return None
    if new:
        (digest,) = new
        changes = [_differences(before.operations[o].fields, after.operations[digest].fields) for o in old]
        # Which of several was the earlier build's is not told: what differs from each of them does in any case.
        variables = tuple(name for name in changes[0][0] if all(name in change[0] for change in changes))
        parts = tuple(part for part in changes[0][1] if all(part in change[1] for change in changes))
        return KeyChange(variables=variables, parts=parts) if variables or parts else None
    if len(now) > 1 or len(old) > 1:
        return None
    (digest,) = now
    return _compare_inputs(before, after, digest, reads_files=lines[0].keyword in ("COPY", "ADD"))


def _compare_inputs(before: CacheKeys, after: CacheKeys, digest: str, *, reads_files: bool) -> KeyChange | None:
    was, is_now = before.operations[digest], after.operations[digest]
    new = is_now.contents - was.contents
    if new:
        if len(new) > 1 or len(was.contents) != 1:
            return KeyChange(has_other_contents=True) if was.contents else None
        (old_contents,), (new_contents,) = was.contents, new
        files = _changed(before.contents[old_contents], after.contents[new_contents], sorted(is_now.selectors))
        return KeyChange(has_other_contents=True, files=files)
    if "" in was.chains or "" in is_now.chains or len(was.contents) > 1:
        return None
    if is_now.chains - was.chains:
        return KeyChange(has_other_place=True)
    return KeyChange(is_same=True) if was.contents or not reads_files else None


def _changed(old: Mapping[str, str], new: Mapping[str, str], selectors: Sequence[str]) -> tuple[str, ...]:
    """Name the files that differ; folders, which change with what is in them, only where nothing else does."""
    names = sorted({*old, *new}, key=lambda name: (name.partition(":")[2], name))
    found = [name for name in names if old.get(name) != new.get(name)]
    if len(selectors) != 1 or any(not name.startswith("0:") for name in found):
        return ()  # several sources: which one a path lies in is not told
    (selector,) = selectors
    if any(letter in selector for letter in "*?["):
        return ()
    inner = [name.partition(":")[2] for name in found]
    files = [name for name in inner if not any(other != name and _is_below(other, name) for other in inner)]
    return tuple("/".join(part for part in (selector.strip("/"), name) if part) for name in files)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/") if folder else True


def _is_step(fields: Mapping[str, Any], lines: Sequence[Instruction]) -> bool:
    return any(_is_line(fields, line) for line in lines)


def _is_line(fields: Mapping[str, Any], line: Instruction) -> bool:
    """Tell whether what BuildKit was asked to do is this line of a Dockerfile."""
    if "exec" in fields:
        words = fields["exec"].get("args")
        if line.keyword != "RUN" or not isinstance(words, list) or not words:
            return False
        command = normalize(_FLAGS.sub("", line.arguments))
        return command == normalize(str(words[-1])) or [*line.words] == words
    actions = fields["actions"]
    if line.keyword == "WORKDIR":
        path = line.arguments.strip("/. ")
        return len(actions) == 1 and "src" not in actions[0] and bool(path) and _ends(actions[0].get("path"), path)
    copies = [action for action in actions if "src" in action]
    if line.keyword not in ("COPY", "ADD") or len(copies) != len(actions) or len(line.words) < 2:
        return False
    *sources, target = line.words
    asked = sorted(_plain(source) for source in sources)
    return sorted(_plain(str(a["src"])) for a in copies) == asked and all(_ends(a.get("dest"), target) for a in copies)


def _plain(path: str) -> str:
    return path.removeprefix("./").strip("/") if path not in (".", "./") else ""


def _ends(path: Any, target: str) -> bool:
    wanted = _plain(target)
    given = str(path).strip("/")
    return not wanted or given == wanted or given.endswith(f"/{wanted}")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the variables and the other parts in which two keys differ. Values may be secrets: they are not told."""
    if "exec" not in old or "exec" not in new:
        return (), ("what is copied where, or how",) if old != new else ()
    was, is_now = old["exec"], new["exec"]
    variables = _variables(was.get("env")), _variables(is_now.get("env"))
    names = {name for name in {*variables[0], *variables[1]} if variables[0].get(name) != variables[1].get(name)}
    parts = [words for key, words in _PARTS.items() if was.get(key) != is_now.get(key)]
    parts += ["the mounts, the network or the security"] if old["rest"] != new["rest"] else []
    parts += ["the platform"] if old["platform"] != new["platform"] else []
    return tuple(sorted(names)), tuple(parts)


_PARTS = {"args": "the command", "cwd": "the working folder", "user": "the user", "hostname": "the name of the host"}


def _variables(words: Any) -> dict[str, str]:
    found = {}
    for word in words if isinstance(words, list) else ():
        name, _, value = str(word).partition("=")
        found[name] = value
    return found

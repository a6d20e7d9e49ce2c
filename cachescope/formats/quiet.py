"""What is left of a build with `--quiet`: an image id when it succeeds, a few lines about the error when it fails.

    sha256:6a0332011c1ed3ee1ce8d64f02e3a6e09aae4b751b45d2c4067648d369d1105d

    Dockerfile:4
    --------------------
       4 | >>> RUN pip install --no-cache-dir -r requirements.txt
    --------------------
    ERROR: failed to build: failed to solve: process "/bin/sh -c pip …" did not complete successfully: exit code: 1

Printed by github.com/docker/buildx, commands/build.go, github.com/docker/cli, and podman. An id alone proves little: it
counts at the beginning of a log or below the command that asks for it; podman's, without `sha256:`, where it is all.
"""

import re
from collections.abc import Iterator

from cachescope.errors import UnreadableInputError
from cachescope.formats._buildkit import Solve, Vertex, decode
from cachescope.formats._neighbours import visible
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.instructions import parse_step_name
from cachescope.model import Build, BuiltImage, Outcome, StepStatus
from cachescope.prefixes.base import LinePrefix

_BARE_ID = re.compile(rb"\s{0,4096}[0-9a-f]{64}\s{0,4096}")
_ID = re.compile(rb"(?:sha256:)?[0-9a-f]{64}")
# The end of a line that ends with an id. Looking back from each line end is three times as fast as looking for digits.
_BEHIND_ID = re.compile(
    rb"\n(?:(?<=[0-9a-f]{64}\n)|(?<=[ \r]\n)(?:%s))"
    % b"|".join(rb"(?<=[0-9a-f]{64}[ \r]{%d}\n)" % blanks for blanks in range(1, 9))
)
_FAILED = re.compile(
    rb"The command ['\"].{1,65536}['\"] returned a non-zero code: \d{1,9}$|"
    rb"(?:ERROR: |error: )?(?:target [^:\n]{1,200}: )?"
    rb"(?:failed to (?:build|solve)(?:: | with frontend )|unable to prepare context: |"
    rb"Service '[^'\n]{1,200}' failed to build|failed to read dockerfile: |resolve : lstat |failed to fetch metadata: |"
    rb"error checking context: |executor failed running \[)",
    re.DOTALL,
)
# People often copy no more than the end of a BuildKit log: ` > [build 3/4] RUN npm ci:`, what it printed, the error.
_TRAILER = re.compile(rb"(?:^|[\n \t])> (\[[^\]\n]{1,300}\] [^\n]{1,4096}):[ \r]{0,8}\n")
_COMMAND = re.compile(rb"\b(docker|podman|buildah|nerdctl)(?: [^\n|;&]{1,200})? (?:build|bud)\b([^\n]{0,2048})")
_QUIET = re.compile(rb"(?:^|\s)(?:-q|--quiet|-[a-zA-Z]{0,4}q[a-zA-Z]{0,4})(?:\s|=true|$)")
_OTHER = re.compile(
    rb"#\d{1,5} (?:\[|DONE |CACHED|ERROR)|=> (?:CACHED |ERROR )?\[|\{\"(?:vertexes|stream)\":|"
    rb"S(?:tep|TEP) \d{1,4}(?:/\d{1,4})? ?: |INFO(?:\[\d{4}\])? "
)
_WORDS = (
    b"failed to ",
    b"returned a non-zero code: ",
    b"error checking context: ",
    b"unable to prepare context: ",
    b"resolve : lstat ",
    b"executor failed running [",
)
_LINES_ABOVE = 400
_REACH = 64 * 1024
_BUILD_CAP = 1_000


class _QuietParser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._prefix = prefix
        self._found: list[FoundBuild] = []
        self._is_begun = False
        """A line was seen that is not blank."""
        self._asked_at = -_LINES_ABOVE
        self._asked: bytes = b""
        self._talks = False
        """A builder that is not quiet was heard."""
        self._failed: tuple[str, int] | None = None
        """The step whose output was printed last below the steps, and the line."""
        self._unread = b""
        """What stands behind the last line that was read, as far as it may matter."""

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]] | None:
        """Look for ids and errors, and for the commands above them."""
        marks = list(_ids(chunk))
        for word in _WORDS:
            at = chunk.find(word)
            while at >= 0:
                marks.append(at)
                at = chunk.find(word, chunk.find(b"\n", at) + 1 or len(chunk))
        if not self._is_begun:
            self._is_begun = not marks and any(self._prefix.strip(line).text.strip() for line in chunk.split(b"\n", 99))
        position, number = 0, first_line
        for at in sorted(marks):
            if at < position:
                continue
            start = chunk.rfind(b"\n", 0, at) + 1
            end = chunk.find(b"\n", at)
            end = len(chunk) if end < 0 else end
            number += chunk.count(b"\n", position, start)
            self._read_above((self._unread + chunk[position:start])[-_REACH:], number)
            self._read(visible(self._prefix.strip(chunk[start:end]).text).strip(), number)
            position, number, self._unread = end + 1, number + 1, b""
        self._unread = (self._unread + chunk[position:])[-_REACH:]
        return None

    def builds(self) -> list[FoundBuild]:
        """Return the builds, each without a step."""
        return list(self._found)

    def warnings(self) -> list[str]:
        """Return nothing: a quiet log leaves nothing to understand."""
        return []

    def _read_above(self, text: bytes, line: int) -> None:
        """Look above a line for the command that asks for silence, and for builders that talk."""
        if not self._is_begun:
            self._is_begun = any(self._prefix.strip(above).text.strip() for above in text.split(b"\n"))
        self._talks = self._talks or _OTHER.search(text) is not None
        for trailer in _TRAILER.finditer(text):
            self._failed = decode(trailer[1]), line - text.count(b"\n", trailer.start(1))
        for match in _COMMAND.finditer(text):
            if _QUIET.search(match[2]):
                self._asked, self._asked_at = match[1], line - text.count(b"\n", match.start())
                self._talks = False

    def _read(self, text: bytes, line: int) -> None:
        is_asked = line - self._asked_at < _LINES_ABOVE
        if _ID.fullmatch(text) and (is_asked or (not self._is_begun and text.startswith(b"sha256:"))):
            self._asked_at = -_LINES_ABOVE
            builder = "buildah" if is_asked and self._asked in (b"podman", b"buildah") else None
            image = BuiltImage(id=text.decode())
            self._add(
                Build(builder=builder, format="quiet", outcome=Outcome.SUCCEEDED, images=(image,), line=line), line
            )
        elif _FAILED.match(text) and not self._talks:
            self._asked_at = -_LINES_ABOVE
            builder = (
                "buildkit" if b"failed to solve" in text else "docker" if text.startswith(b"The command") else None
            )
            error = text[:16384].decode(errors="replace").removeprefix("ERROR: ")
            failed, self._failed = self._failed, None
            if failed is not None and builder != "docker" and parse_step_name(failed[0]).instruction is not None:
                self._add(_failed_step(failed[0], failed[1], error), line)
            else:
                self._add(Build(builder=builder, format="quiet", outcome=Outcome.FAILED, error=error, line=line), line)
        self._is_begun = self._is_begun or bool(text)

    def _add(self, build: Build, line: int) -> None:
        if len(self._found) < _BUILD_CAP:
            self._found.append(FoundBuild(build, build.line or line, line))


class _Quiet:
    needles = (b"sha256:", *_WORDS, b"podman build -q", b"podman build --quiet", b"buildah bud -q")

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return 0.3 where a line is nothing but an image id, or the error of a build: every other format is surer."""
        marks = list(_ids(head))
        marks.extend(at for word in _WORDS if (at := head.find(word)) >= 0)
        for at in marks[:1000]:
            start = head.rfind(b"\n", 0, at) + 1
            end = head.find(b"\n", at)
            text = visible(prefix.strip(head[start : end if end >= 0 else len(head)]).text).strip()
            if _ID.fullmatch(text) or _FAILED.match(text):
                return 0.3
        return 0.0

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _QuietParser(prefix)

    def claims(self, head: bytes) -> bool:
        """Tell whether a file is nothing but the id that podman prints."""
        return _BARE_ID.fullmatch(head) is not None

    def read_document(self, content: bytes) -> list[tuple[str | None, Build]]:
        """Read the build; raises UnreadableInputError where something follows the id."""
        if _BARE_ID.fullmatch(content) is None:
            raise UnreadableInputError("More than an image id.")
        image = BuiltImage(id=content.strip().decode())
        return [(None, Build(builder="buildah", format="quiet", outcome=Outcome.SUCCEEDED, images=(image,), line=1))]


def _failed_step(name: str, line: int, error: str) -> Build:
    """Return a build of which no more is known than the step that failed."""
    solve = Solve("quiet", line)
    solve.add(0, Vertex(name, line, status=StepStatus.FAILED))
    solve.fail(error)
    return solve.build()


def _ids(text: bytes) -> Iterator[int]:
    """Yield a place in each line that ends with an id."""
    for match in _BEHIND_ID.finditer(text):
        yield match.start()
    if not text.endswith(b"\n") and _ID.match(text.rstrip(b" \r")[-64:]):
        yield len(text) - 1


FORMAT = _Quiet()

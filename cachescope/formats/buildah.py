"""The text of `buildah build` and `podman build`, with and without `--layers`, from 1.9 (`STEP 3:`) to now.

    [1/2] STEP 1/7: FROM python:3.11-slim AS build
    [1/2] STEP 2/7: ARG REQ=requirements.txt
    --> Using cache 96ee88d4d15f6d5ed315227597d6be91bcfdcfb4177a49aebb0c17babed23ea6
    --> 96ee88d4d15
    [2/2] STEP 1/11: FROM python:3.11-slim
    [2/2] COMMIT stockroom:1
    --> 382f1f2d787
    Successfully tagged localhost/stockroom:1
    382f1f2d78799db7ffcbee0f81597769653ec26155542410f3b01d2c76c30db3

Printed by github.com/containers/buildah, imagebuildah/stage_executor.go. Times come from the CI's stamps only.
"""

import re

from cachescope.formats._buildah_builds import BuildahBuilds, Headline, Place
from cachescope.formats._neighbours import Neighbours, is_elision, visible
from cachescope.formats.base import FoundBuild, LogParser
from cachescope.instructions import keyword_of
from cachescope.prefixes.base import LinePrefix

_HEADLINE = re.compile(
    rb"(?:\[([a-z0-9]{2,20}/[a-z0-9_/.]{1,40})\] )?(?:\[(\d{1,4})/(\d{1,4})\] )?STEP (\d{1,5})(?:/(\d{1,5}))?: (.*)",
    re.DOTALL,
)
_COMMIT = re.compile(rb"(?:\[[a-z0-9/_.]{1,64}\] )?(?:\[\d{1,4}/\d{1,4}\] )?COMMIT(?: (\S{1,512}))?\s*")
_TAGGED = re.compile(rb"Successfully tagged (\S{1,512})\s*")
_FULL_ID = re.compile(rb"[0-9a-f]{64}")
# `Error: building at STEP "RUN false": …`; older: `error building at STEP "RUN false": error while running runtime: …`.
_AT_STEP = re.compile(
    rb"(?:[Ee]rror:? |level=error msg=\"?).{0,256}?(?:building )?at (?:STEP|step) |"
    rb"(?:Error: )?error checking if cached image "
)
_ERROR = re.compile(
    rb"(?:Error: |error (?:building|creating|running|committing|pulling|copying)|ERRO\[\d{1,6}\] |FATA\[\d{1,6}\] |"
    rb"time=\S{1,64} level=(?:error|fatal) msg=)"
)
_UNREADABLE = re.compile(
    rb"(?:Error: |error )(?:parsing main Dockerfile: |no FROM statement found|no contents in \"|"
    rb"no context directory and no Containerfile specified|no Containerfile or Dockerfile specified or found)"
)
_UNREADABLE_WORDS = (b"parsing main Dockerfile: ", b"no FROM statement found", b'no contents in "', b"no Containerfile")
_WARNING = re.compile(
    rb"(\[Warning\] .*)|time=\"[^\"\n]{1,40}\" level=warning msg=\"((?:[^\"\\]|\\.){1,2048})\"", re.DOTALL
)
_OUTPUT_KEPT = 16 * 1024


class _BuildahParser:
    def __init__(self, prefix: LinePrefix) -> None:
        self._builds = BuildahBuilds()
        self._strip = prefix.strip
        self._neighbours = Neighbours(prefix.strip, b"-->")
        self._ordinal = 1
        self._last_line = 0
        self._end = b""
        """What the log ends with, as far as it was read."""

    def feed(self, chunk: bytes, first_line: int) -> list[tuple[int, int]]:
        """Look at every line while the builder speaks, only at headlines and failures while a RUN does."""
        builds = self._builds
        ordinal, shift = self._ordinal, first_line - self._ordinal
        outside: list[tuple[int, int]] = []
        outside_from = -1 if builds.is_inside else 0
        position = counted = 0
        words = _Words(chunk)
        while position < len(chunk):
            start = position if builds.reads_all else words.next_line(position)
            if start < 0:
                break
            end = chunk.find(b"\n", start)
            end = len(chunk) if end < 0 else end
            ordinal += chunk.count(b"\n", counted, start)
            counted = start
            self._read(chunk, start, end, ordinal, shift)
            position = end + 1
            if outside_from >= 0 and builds.is_inside:
                outside.append((outside_from, start))
                outside_from = -1
            elif outside_from < 0 and not builds.is_inside:
                outside_from = min(position, len(chunk))
        if outside_from >= 0:
            outside.append((outside_from, len(chunk)))
        self._ordinal = ordinal + chunk.count(b"\n", counted)
        self._last_line = self._ordinal + shift - chunk.endswith(b"\n")
        self._end = (self._end + chunk[-_OUTPUT_KEPT:])[-_OUTPUT_KEPT:]
        self._neighbours.end(chunk)
        return outside

    def builds(self) -> list[FoundBuild]:
        """Return the builds so far, in the order in which they began."""
        return self._builds.found(self._end, self._last_line)

    def warnings(self) -> list[str]:
        """Return what was cut or left out."""
        return self._builds.warnings()

    def _read(self, chunk: bytes, start: int, end: int, ordinal: int, shift: int) -> None:
        builds, raw = self._builds, chunk[start:end]
        if builds.awaits_line and b"--> " in raw and b"STEP " not in raw:
            builds.below_headline(raw)
            return
        line = self._strip(raw)
        text = line.text
        if b"\x1b" in text or b"\r" in text:
            text = visible(text)
        place = Place(ordinal + shift, ordinal, line.at)
        # An unterminated line may go on: it announces nothing yet.
        headline = _HEADLINE.fullmatch(text) if b"STEP " in text and end < len(chunk) else None
        if builds.awaits_line and text.strip() and not text.startswith((b"DEBU[", b'time="')):
            builds.below_headline(raw if headline is None else b"")  # an instruction may hold an arrow
        if headline is not None and builds.headline(
            _headline(headline, place), self._neighbours.above(chunk, start, 4)
        ):
            return
        if not text.strip():
            return
        if warning := _WARNING.fullmatch(text):
            builds.warn((warning[1] or warning[2]).decode(errors="replace"))
        elif builds.is_committing:
            self._read_commit(text, place)
        elif _FULL_ID.fullmatch(text.strip()) and builds.ends_with(text.strip()):
            builds.written(text.strip().decode(), place)
        elif commit := _COMMIT.fullmatch(text):
            above = self._neighbours.above(chunk, start, 1)
            name = (commit[1] or b"").decode(errors="replace")
            builds.commit(name, place, is_elided=bool(above) and is_elision(self._strip(above[-1]).text))
        elif _AT_STEP.match(text) is not None:
            builds.fail(_message(text), place, is_sure=True)
        elif builds.is_inside and not builds.runs_command and _ERROR.match(text):
            builds.fail(_message(text), place, is_sure=False)
        elif _UNREADABLE.match(text):
            builds.fail_without_steps(_message(text), place)

    def _read_commit(self, text: bytes, place: Place) -> None:
        if tagged := _TAGGED.fullmatch(text):
            self._builds.tagged(tagged[1].decode(errors="replace"), place)
        elif _FULL_ID.fullmatch(image := text.strip().removeprefix(b"--> ")):  # with an arrow up to 1.7
            self._builds.written(image.decode(), place)
        elif _ERROR.match(text):
            self._builds.fail(_message(text), place, is_sure=False)


class _Words:
    """Finds the next line with a word of the builder in a chunk; each word is looked for once."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk
        self._next = {
            word: chunk.find(word)
            for word in (b"STEP ", b"COMMIT", b"at step ", b"checking if cached", *_UNREADABLE_WORDS)
        }

    def next_line(self, position: int) -> int:
        """Return where that line begins, at or behind `position`; -1 where there is none."""
        for word, at in self._next.items():
            if 0 <= at < position:
                self._next[word] = self._chunk.find(word, position)
        hits = [at for at in self._next.values() if at >= 0]
        return max(position, self._chunk.rfind(b"\n", 0, min(hits)) + 1) if hits else -1


class _Buildah:
    needles = (
        b"STEP ",
        *(b"Error: " + word for word in _UNREADABLE_WORDS),
    )

    def sniff(self, head: bytes, prefix: LinePrefix) -> float:
        """Return how much of buildah's headlines is there."""
        words, position, score = _Words(head), 0, 0.0
        while (start := words.next_line(position)) >= 0:
            end = head.find(b"\n", start)
            end = len(head) if end < 0 else end
            text = visible(prefix.strip(head[start:end]).text)
            headline = _HEADLINE.fullmatch(text)
            if headline is not None and keyword_of(headline[6].decode(errors="replace")) is not None:
                if headline[4] == b"1":
                    return 0.95
                score = 0.8 if b"--> " in head else max(score, 0.6)
            if _UNREADABLE.match(text):
                score = max(score, 0.7)
            position = end + 1
        return score

    def parser(self, prefix: LinePrefix) -> LogParser:
        """Open a parser."""
        return _BuildahParser(prefix)


def _headline(match: re.Match[bytes], place: Place) -> Headline:
    platform, stage, stages, number, total, text = match.groups()
    return Headline(
        number=int(number),
        total=None if total is None else int(total),
        text=text.rstrip().decode(errors="replace"),
        place=place,
        platform=None if platform is None else platform.decode(),
        stage=None if stage is None else int(stage),
        stages=None if stages is None else int(stages),
    )


def _message(text: bytes) -> str:
    return text.strip()[:4096].decode(errors="replace")


FORMAT = _Buildah()

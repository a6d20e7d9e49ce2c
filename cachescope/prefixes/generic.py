r"""Any other prefix in front of every line: `git push` hooks, log frameworks, indentation, quoted text.

    remote: #5 [2/3] RUN make
    2026-11-23 17:05:47,123 INFO  [builder] Step 1/3 : FROM busybox
    [INFO] #7 CACHED
    {"log":"#8 DONE 1.2s\n","stream":"stderr","time":"2026-11-23T17:05:54.524240273Z"}

The shape is learned from the lines of a builder that are not at the beginning of a line: parts that stay the same
are literal, digits and words that change are not. Docker's json-file lines are unpacked.
"""

import re
from collections import Counter

import orjson

from cachescope.prefixes._stamps import STAMP, clock_of, parse_stamp, seconds_of
from cachescope.prefixes.base import Line, LinePrefix

_MARKER = re.compile(
    rb"#[0-9]{1,6} (?:\[[^\]\n]{1,200}\] |DONE [0-9.]{1,9}s|CACHED|ERROR: |[0-9]{1,6}\.[0-9]{1,3} "
    rb"|transferring |exporting )"
    rb"|Step [0-9]{1,4}(?:/[0-9]{1,4})? : [A-Z]"
    rb"|(?:\[[a-z0-9]{2,20}/[a-z0-9/]{1,40}\] )?(?:\[[0-9]{1,3}/[0-9]{1,3}\] )?STEP [0-9]{1,4}(?:/[0-9]{1,4})?: [A-Z]"
    rb"|(?<=\] )INFO\[[0-9]{4}\] "
    rb"(?:[A-Z]{3,11} |Retrieving image |Unpacking rootfs |Taking snapshot |Executing [0-9]|[Cc]md: )"
)
# A row of BuildKit's screen; blanks and colours stand before each of them.
_ROW = re.compile(
    rb"(?<!=> )=> (?:\[internal\] load "
    rb"|(?:CACHED |ERROR |CANCELED )?\[(?:[^\]\n]{1,200} )? ?[0-9]{1,3}/[0-9]{1,3}\] [A-Z]{3,11} )"
)
_ROW_MARGIN = re.compile(rb"(?:(?:\x1b|\?|\^\[)?\[[0-9;?]{0,16}[A-Za-z]|[ \t\r`'\"]){0,400}$")
_ARROW = re.compile(rb" ---> (?:[0-9a-f]{12}|Using cache|Running in)")
_JSON_FILE = re.compile(rb'\s{0,8}\{[^\n]{0,65536}?"(?:log|msg|message)"\s?:\s?"')
_TEXT_KEYS = ("log", "msg", "message")
_TIME_KEYS = ("time", "ts", "timestamp", "@timestamp")
_DIGITS = re.compile(rb"[0-9]+")
_ZONELESS = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)[.,]?(\d{0,9})")
_ANY_STAMP = re.compile(STAMP)
_SAMPLE = 400
_LONGEST = 256


class _JsonFile:
    """Docker's json-file log driver and JSON log frameworks: one object per line."""

    wrapper = None

    def sniff(self, head: bytes) -> float:
        """Return the share of lines that are such objects."""
        lines = [line for line in head.split(b"\n", _SAMPLE)[:_SAMPLE] if line.strip()]
        share = sum(_JSON_FILE.match(line) is not None for line in lines) / max(1, len(lines))
        return 0.9 * share if share > 0.6 else 0.0

    def strip(self, line: bytes) -> Line:
        """Take the text and its time out."""
        line = line.rstrip(b"\r\n")
        if not _JSON_FILE.match(line):
            return Line(line)
        try:
            item = orjson.loads(line)
        except orjson.JSONDecodeError:
            return Line(line)
        fields = item if isinstance(item, dict) else {}
        text = next((fields[key] for key in _TEXT_KEYS if isinstance(fields.get(key), str)), None)
        if text is None:
            return Line(line)
        time = next((fields[key] for key in _TIME_KEYS if isinstance(fields.get(key), str)), None)
        at = parse_stamp(time) if time is not None else None
        return Line(text.encode(errors="replace").rstrip(b"\r\n"), at)


class _Fitted:
    """A prefix of a learned shape."""

    wrapper = None

    def __init__(self, shape: re.Pattern[bytes]) -> None:
        self._shape = shape

    def sniff(self, head: bytes) -> float:
        """Return how many lines have the shape."""
        lines = head.split(b"\n", _SAMPLE)[:_SAMPLE]
        return 0.6 * sum(self._shape.match(line) is not None for line in lines) / len(lines)

    def strip(self, line: bytes) -> Line:
        """Take off what has the shape, and read a time in it."""
        line = line.rstrip(b"\r\n")
        match = self._shape.match(line)
        if match is None:
            # An editor that takes blanks off line ends leaves less than the whole prefix of a blank line.
            return Line(b"" if len(line) <= _LONGEST and self._shape.fullmatch(line + b" ") else line)
        return Line(line[match.end() :], _time_in(match[0]))


class _Generic:
    wrapper = None

    def sniff(self, head: bytes) -> float:
        """Return how many of the builder's own lines stand behind something else."""
        as_json = _JSON.sniff(head)
        if as_json:
            return as_json
        behind, bare = _prefixes(head)
        if len(behind) < 2:
            return 0.0
        is_label = len(behind) <= 2 * bare
        if is_label and not _is_label(behind):
            return 0.0
        shape = _shape(behind)
        if shape is None:
            return 0.0
        lines = [line for line in head.split(b"\n", _SAMPLE)[:_SAMPLE] if line.strip()]
        lines = lines[next((index for index, line in enumerate(lines) if shape.match(line)), 0) :]
        share = sum(shape.match(line) is not None for line in lines) / max(1, len(lines))
        return 0.5 * share if share > (0.1 if is_label else 0.4) else 0.0

    def strip(self, line: bytes) -> Line:
        """Leave the line as it is: without a log there is no shape."""
        return Line(line.rstrip(b"\r\n"))

    def fitted(self, head: bytes) -> LinePrefix:
        """Return the prefix with the shape that most of the builder's lines have."""
        if _JSON.sniff(head):
            return _JSON
        shape = _shape(_prefixes(head)[0])
        return self if shape is None else _Fitted(shape)


def _is_label(prefixes: list[bytes]) -> bool:
    """Tell whether it is the same words each time, as a tool puts before what it got at once, not before each line.

    A builder's own marks are none: a build inside of a step stands behind these.
    """
    label = prefixes[0]
    return len(set(prefixes)) == 1 and len(label) > 2 and b"#" not in label and b"=>" not in label and label.isascii()


def _prefixes(head: bytes) -> tuple[list[bytes], int]:
    """Return what stands before the builder's words in each line, and in how many lines nothing does."""
    behind: list[bytes] = []
    arrows: list[bytes] = []
    bare = 0
    for line in head.split(b"\n")[:5000]:
        if line.startswith((b'{"vertexes"', b'{"stream"', b'{"logs"')):
            continue
        match = _MARKER.search(line[:1024])
        if match is None and b"=> " in line and (match := _ROW.search(line[:1024])) is not None:
            if _ROW_MARGIN.match(line[: match.start()]):
                bare += 1
            elif match.start() <= _LONGEST:
                behind.append(line[: match.start()].rstrip(b" \t"))
            continue
        if match is None:
            arrow = _ARROW.search(line[:1024])
            if arrow is not None and len(arrows) < _SAMPLE:
                arrows.append(line[: arrow.start()])
            continue
        if match.start() == 0:
            bare += 1
        elif match.start() <= _LONGEST:
            behind.append(line[: match.start()])
            if len(behind) >= _SAMPLE:
                break
    # Headlines tell better where the lines begin: a page that is laid out anew takes the blank before an arrow away.
    if len(behind) < 2 and not bare:
        behind.extend(prefix for prefix in arrows if 0 < len(prefix) <= _LONGEST)
        bare = sum(not prefix for prefix in arrows)
    return behind, bare


def _shape(prefixes: list[bytes]) -> re.Pattern[bytes] | None:
    """Return a pattern for the shape that most prefixes share."""
    counted = Counter(len(prefix.split(b" ")) for prefix in prefixes)
    if not counted:
        return None
    words, often = counted.most_common(1)[0]
    if words > 24 or often * 5 < len(prefixes) * 3:
        return None
    columns = list(zip(*(prefix.split(b" ") for prefix in prefixes if prefix.count(b" ") == words - 1), strict=True))
    return re.compile(b" ".join(_column(column) for column in columns))


def _column(words: tuple[bytes, ...]) -> bytes:
    """Return a pattern for one word of the prefix."""
    if len(set(words)) == 1 and not _DIGITS.search(words[0]):
        return re.escape(words[0])
    shapes = {_DIGITS.sub(b"0", word) for word in words}
    if len(shapes) == 1:
        parts = _DIGITS.split(words[0])
        return rb"\d{1,20}".join(re.escape(part) for part in parts)
    return rb"[^ \n]{0,256}"


def _time_in(prefix: bytes) -> float | None:
    """Return the time that stands in a prefix; one without a zone is taken as UTC, one without a date is a clock's."""
    match = _ANY_STAMP.search(prefix)
    if match is not None:
        return seconds_of(match)
    zoneless = _ZONELESS.search(prefix)
    if zoneless is None:
        return clock_of(prefix)
    day, clock, fraction = zoneless.groups()
    return parse_stamp(f"{day.decode()}T{clock.decode()}.{fraction.decode() or '0'}Z")


_JSON = _JsonFile()
PREFIX = _Generic()

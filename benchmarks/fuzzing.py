"""Spoilt logs without end: reads real logs cut, flipped, shuffled and spliced, and checks what must always hold.

    python benchmarks/fuzzing.py [--corpus DIR] [--cuts 200] [--inputs 100000] [--seconds 60] [--processes 2]

First every log is cut at random places, tail and head; then inputs are made until their number or the time is reached.
Nothing may be raised; a log in chunks of any size reads like the whole; asking in between changes nothing; cutting the
tail off never invents a step; no input takes far longer per byte than the others. What fails is written to `--save`.
"""

import argparse
import gzip
import hashlib
import multiprocessing
import random
import re
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cachescope.formats import FORMATS
from cachescope.formats.base import DocumentFormat
from cachescope.model import LogReading
from cachescope.prefixes import PREFIXES
from cachescope.reading import LogReader, read_builds

FIXTURES = Path(__file__).parent.parent / "tests" / "cachescope"
ENDINGS = (".log", ".jsonl", ".dockerbuild", ".log.gz", ".history-inspect.json", ".metadata.json")
PARSERS = sorted(name for name, log_format in FORMATS.items() if not isinstance(log_format, DocumentFormat))
DIGEST = re.compile(r"@s?h?a?2?5?6?:?[0-9a-f]{0,64}$")
SMALL = 4096
SLOW_FACTOR = 50
SLOW_SECONDS = 0.25
"""Below this no single input counts as slow: a garbage collection takes as long on a busy machine."""

Step = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Log:
    """A real log and the steps that it tells."""

    name: str
    content: bytes
    lines: list[bytes]
    steps: Counter[Step]


@dataclass
class Tally:
    """What one process did and found."""

    save: Path | None
    inputs: Counter[str] = field(default_factory=Counter)
    cut_logs: int = 0
    bytes_read: int = 0
    per_byte: list[float] = field(default_factory=list)
    slow: list[tuple[float, int, str]] = field(default_factory=list)
    failures: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    """By what went wrong: how often, the smallest input's origin, and that input."""

    def fail(self, what: str, origin: str, content: bytes) -> None:
        """Keep the smallest input of each failure."""
        count, first, smallest = self.failures.get(what, (0, origin, content))
        if not count or len(content) < len(smallest):
            first, smallest = origin, content
            if self.save is not None:
                self.save.mkdir(parents=True, exist_ok=True)
                (self.save / hashlib.sha256(what.encode()).hexdigest()[:10]).write_bytes(content)
        if not count:
            print(f"found: {what}", file=sys.stderr, flush=True)
        self.failures[what] = (count + 1, first, smallest)


def steps_of(reading: LogReading) -> Counter[Step]:
    """Return how often each step is told; a bake step without its target: the target printed last is the one.

    A digest does not count: a terminal cuts it where its rows end, and a later frame may show more of it.
    """
    return Counter(
        (
            DIGEST.sub("", step.text.replace(f"[{step.target}", "[", 1) if step.target else step.text),
            step.stage,
            step.platform,
        )
        for build in reading.builds
        for step in build.steps
    )


def load_logs(folder: Path) -> Iterator[Log]:
    """Yield the logs of a folder."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not path.name.endswith(ENDINGS):
            continue
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        steps = steps_of(read_builds([content]))
        yield Log(str(path.relative_to(folder)), content, content.splitlines(keepends=True), steps)


def in_chunks(content: bytes, chance: random.Random, peek: bool) -> LogReading:
    """Read a log in chunks of random sizes, asking for the reading in between where `peek` is set."""
    reader, at = LogReader(), 0
    most = chance.choice((3, 40, 700, 6000))
    while at < len(content):
        size = chance.randint(1, most if len(content) < 50_000 else 6000)
        reader.feed(content[at : at + size])
        at += size
        if peek and chance.random() < 0.05:
            reader.reading()
    reader.finish()
    return reader.reading()


def check(tally: Tally, kind: str, origin: str, content: bytes, chance: random.Random) -> LogReading | None:
    """Read one input and note what is wrong with it."""
    tally.inputs[kind] += 1
    tally.bytes_read += len(content)
    started = time.thread_time()
    try:
        reading = read_builds([content])
        spent = time.thread_time() - started
        chosen = chance.random()
        if chosen < 0.08 and in_chunks(content, chance, peek=False) != reading:
            tally.fail(f"in chunks it reads differently ({origin})", origin, content)
        elif chosen > 0.97 and in_chunks(content, chance, peek=True) != reading:
            tally.fail(f"asking in between changes it ({origin})", origin, content)
    except Exception as error:  # noqa: BLE001 - any exception is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        tally.fail(f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}", origin, content)
        return None
    if len(content) >= 1024:
        if len(tally.per_byte) < 50_000:
            tally.per_byte.append(spent / len(content))
        if spent > SLOW_SECONDS:
            tally.slow.append((spent, len(content), origin))
            tally.slow = sorted(tally.slow, reverse=True)[:20]
    return reading


def cut_tail(tally: Tally, log: Log, chance: random.Random) -> None:
    """Cut the end off: no step may appear that the whole log does not tell, nor more often."""
    content = log.content[: chance.randrange(len(log.content) + 1)]
    reading = check(tally, "tail cut", log.name, content, chance)
    if reading is None:
        return
    invented = steps_of(reading) - log.steps
    if invented:
        tally.fail(f"a tail cut invents a step ({log.name}): {min(map(str, invented)):.150}", log.name, content)


def cut_head(tally: Tally, log: Log, chance: random.Random) -> None:
    """Cut the beginning off."""
    check(tally, "head cut", log.name, log.content[chance.randrange(len(log.content) + 1) :], chance)


def flip(tally: Tally, log: Log, chance: random.Random) -> None:
    """Change some bytes."""
    content = bytearray(log.content)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        if content:
            content[chance.randrange(len(content))] = chance.choice(
                (chance.randrange(256), 0, 10, 13, 27, 32, 34, 48, 57, 255)
            )
    check(tally, "bytes flipped", log.name, bytes(content), chance)


def shuffle(tally: Tally, log: Log, chance: random.Random) -> None:
    """Swap, double and delete lines."""
    lines = list(log.lines)
    for _ in range(chance.choice((1, 2, 5, 20))):
        if not lines:
            break
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(4):
            case 0:
                lines[at], lines[other] = lines[other], lines[at]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                del lines[at]
            case _:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
    check(tally, "lines moved", log.name, b"".join(lines), chance)


def collage(tally: Tally, logs: list[Log], needles: list[bytes], chance: random.Random) -> None:
    """Put single lines of any logs and needles together."""
    parts: list[bytes] = []
    for _ in range(chance.choice((1, 2, 3, 5, 8, 12))):
        lines = chance.choice(logs).lines
        if chance.random() < 0.15 or not lines:
            parts.append(chance.choice(needles) + chance.choice((b"", b"\n", b" ", b"9" * 30)))
        else:
            parts.append(chance.choice(lines)[: chance.choice((80, 300, 1000))])
    check(tally, "lines of many logs", "lines of many logs", b"".join(parts), chance)


def splice(tally: Tally, log: Log, other: Log, chance: random.Random) -> None:
    """Put a part of one log into another."""
    at, start = chance.randrange(len(log.content) + 1), chance.randrange(len(other.content) + 1)
    part = other.content[start : start + chance.randrange(SMALL)]
    end = at + chance.choice((0, len(part)))
    content = log.content[:at] + part + log.content[end:]
    check(tally, "logs spliced", f"{log.name} + {other.name}", content, chance)


def inject(tally: Tally, log: Log, needles: list[bytes], chance: random.Random) -> None:
    """Insert words that formats look for."""
    content = log.content
    for _ in range(chance.choice((1, 3, 9))):
        at = chance.randrange(len(content) + 1)
        content = content[:at] + chance.choice(needles) + content[at:]
    check(tally, "needles inserted", log.name, content, chance)


def noise(tally: Tally, needles: list[bytes], chance: random.Random) -> None:
    """Make bytes up."""
    content = b"".join(
        chance.choice(needles) if chance.random() < 0.4 else chance.randbytes(chance.choice((1, 2, 5, 30)))
        for _ in range(chance.randint(1, 12))
    )
    check(tally, "bytes made up", "bytes made up", content, chance)


def parse(tally: Tally, logs: list[Log], needles: list[bytes], chance: random.Random) -> None:
    """Give single lines to the parser of any one format, whatever they are: the cheapest input."""
    name = chance.choice(PARSERS)
    parser = FORMATS[name].parser(PREFIXES["none"])
    lines = [
        chance.choice(needles) + b"9" * chance.choice((0, 1, 30)) + b"\n"
        if chance.random() < 0.2
        else chance.choice(chance.choice(logs).lines or [b""])[: chance.choice((20, 80, 300))]
        for _ in range(chance.choice((1, 2, 3, 5, 8)))
    ]
    lines = [line if line.endswith(b"\n") else line + b"\n" for line in lines]
    tally.inputs["lines to one parser"] += 1
    try:
        for number, line in enumerate(lines, 1):
            parser.feed(line, number)
        found = parser.builds()
        if any(not 1 <= build.first_line <= build.last_line <= len(lines) for build in found):
            tally.fail(f"{name} tells lines that the log has not", name, b"".join(lines))
        if found != parser.builds():
            tally.fail(f"{name} does not say the same twice", name, b"".join(lines))
        parser.warnings()
    except Exception as error:  # noqa: BLE001 - any exception is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        tally.fail(f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}", name, b"".join(lines))


def work(job: tuple[Path, int, int, int, int, float, float, Path | None]) -> Tally:
    """Cut this process's share of the logs, then make inputs until their number or the time is reached."""
    folder, seed, index, processes, cuts, inputs, until, save = job
    chance, tally = random.Random(f"{seed}/{index}"), Tally(save)
    logs = list(load_logs(folder))
    small = [log for log in logs if len(log.content) <= SMALL] or logs
    needles = sorted({needle for log_format in FORMATS.values() for needle in log_format.needles})
    for log in sorted(logs[index::processes], key=lambda log: len(log.content)):
        for _ in range(cuts):
            if time.time() > until:
                break
            cut_tail(tally, log, chance)
            if chance.random() < 0.25:
                cut_head(tally, log, chance)
        else:
            tally.cut_logs += cuts > 0
    kinds: list[tuple[float, Callable[[], None]]] = [
        (200, lambda: parse(tally, logs, needles, chance)),
        (20, lambda: collage(tally, logs, needles, chance)),
        (20, lambda: noise(tally, needles, chance)),
        (5, lambda: cut_tail(tally, chance.choice(small), chance)),
        (2, lambda: cut_head(tally, chance.choice(small), chance)),
        (5, lambda: flip(tally, chance.choice(small), chance)),
        (5, lambda: shuffle(tally, chance.choice(small), chance)),
        (2, lambda: splice(tally, chance.choice(small), chance.choice(logs), chance)),
        (3, lambda: inject(tally, chance.choice(small), needles, chance)),
        (0.1, lambda: flip(tally, chance.choice(logs), chance)),
        (0.1, lambda: shuffle(tally, chance.choice(logs), chance)),
    ]
    weights, makers = [weight for weight, _ in kinds], [maker for _, maker in kinds]
    while tally.inputs.total() < inputs and time.time() < until:
        for maker in chance.choices(makers, weights, k=200):
            maker()
    return tally


def report(tallies: list[Tally]) -> int:
    """Print what was read and what failed; returns the exit code."""
    inputs = sum((tally.inputs for tally in tallies), Counter[str]())
    failures: dict[str, tuple[int, str, bytes]] = {}
    for tally in tallies:
        for what, (count, origin, content) in tally.failures.items():
            failures[what] = (failures.get(what, (0, "", b""))[0] + count, origin, content)
    median = statistics.median([value for tally in tallies for value in tally.per_byte] or [0.0])
    print(f"{inputs.total():,} inputs, {sum(tally.bytes_read for tally in tallies) / 1e6:,.0f} MB; ", end="")
    print(f"{sum(tally.cut_logs for tally in tallies)} logs with all their cuts; median {median * 1e9:,.0f} ns a byte")
    for kind, count in inputs.most_common():
        print(f"  {count:>9,} {kind}")
    for spent, size, origin in sorted((item for tally in tallies for item in tally.slow), reverse=True)[:20]:
        if median and spent / size > SLOW_FACTOR * median:
            failures[f"{spent:.1f} s for {size:,} bytes, {spent / size / median:.0f} times the median"] = (
                1,
                origin,
                b"",
            )
    for what, (count, origin, content) in sorted(failures.items()):
        name = hashlib.sha256(what.encode()).hexdigest()[:10]
        print(f"FAILED {count}×: {what}; from {origin}, {len(content):,} bytes, saved as {name}")
    return 1 if failures else 0


def main() -> int:
    """Run it and say what failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, default=FIXTURES, help="a folder of logs; the tests' own by default")
    parser.add_argument("--cuts", type=int, default=200, help="tail cuts of every log")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="a folder for the inputs that fail")
    options = parser.parse_args()
    until = time.time() + options.seconds
    each = options.inputs // options.processes
    jobs = [
        (options.corpus, options.seed, index, options.processes, options.cuts, each, until, options.save)
        for index in range(options.processes)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        return report(pool.map(work, jobs))


if __name__ == "__main__":
    sys.exit(main())

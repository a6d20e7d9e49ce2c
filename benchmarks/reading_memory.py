"""How much memory reading takes: a 1 GB log, one line of 100 MB, 10 million lines; at most 64 MB above idle (issue 3).

    python benchmarks/reading_memory.py [--gigabytes 1] [--only plain]

Each case runs in a process of its own, so that the peaks do not mix. The logs are the tests' real ones, repeated with
digests of their own, and are never kept: the pieces go straight into the reader.
"""

import argparse
import multiprocessing
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.corpus import FORMATS, pieces
from cachescope.reading import LogReader, read_builds

LIMIT_MEGABYTES = 64
STAMP = b"2026-11-23T17:05:50.5824892Z "
_DIGEST = re.compile(rb"(sha256:[0-9a-f]{56})[0-9a-f]{8}")
Chunks = Callable[[float], Iterator[bytes]]


def repeated(log_format: str, stamp: bytes = b"") -> Chunks:
    """Return what yields the logs of a format, each copy with digests of its own, until they have the size."""

    def chunks(size: float) -> Iterator[bytes]:
        logs = [b"".join(stamp + line for line in log.splitlines(keepends=True)) for log in pieces(log_format)]
        told, number = 0, 0
        while told < size:
            for log in logs:
                number += 1
                told += len(log)
                yield _DIGEST.sub(b"\\g<1>%08x" % number, log)

    return chunks


def running(fixture: str) -> bytes:
    """Return a real log up to the headline of its last RUN: the build that the lines to come are of."""
    content = (FORMATS / fixture).read_bytes()
    return content[: content.index(b"\n", content.rindex(b" RUN ")) + 1]


def chatty(fixture: str, line: bytes) -> Chunks:
    """Return what yields a running build whose step prints the same line over and over."""

    def chunks(size: float) -> Iterator[bytes]:
        yield running(fixture)
        block = line * (256 * 1024 // len(line))
        for _ in range(int(size) // len(block) + 1):
            yield block

    return chunks


def long_line(fixture: str, start: bytes) -> Chunks:
    """Return what yields a running build and a line of 100 MB (for 1 GB; shorter for less)."""

    def chunks(size: float) -> Iterator[bytes]:
        yield running(fixture)
        yield start
        for _ in range(int(size) // 10_000_000 + 1):
            yield b"x" * 1_000_000
        yield b"\n"

    return chunks


def many_lines(fixture: str, line: bytes) -> Chunks:
    """Return what yields a running build and 10 million lines (for 1 GB; fewer for less)."""

    def chunks(size: float) -> Iterator[bytes]:
        yield running(fixture)
        for _ in range(int(size) // 1_000_000):
            yield line * 10_000

    return chunks


PLAIN, RAWJSON, CLASSIC = (
    "buildkit_plain/docker_28.log",
    "buildkit_rawjson/buildctl_warm.log",
    "classic/every_instruction_cold.log",
)
_MESSAGE = b'{"logs":[{"vertex":"sha256:%s","stream":1,"data":"SGVsbG8K","timestamp":"2026-11-23T16:47:34Z"}]}\n' % (
    b"0" * 64
)
CASES: dict[str, Chunks] = {
    "plain, builds repeated": repeated("buildkit_plain"),
    "rawjson, builds repeated": repeated("buildkit_rawjson"),
    "classic, builds repeated": repeated("classic"),
    "classic with stamps, builds repeated": repeated("classic", STAMP),
    "plain, one chatty step": chatty(PLAIN, b"#9 0.123 downloading a package that has a name\n"),
    "rawjson, one chatty step": chatty(RAWJSON, _MESSAGE),
    "classic, one chatty step": chatty(CLASSIC, b"downloading a package that has a name\n"),
    "plain, one long line": long_line(PLAIN, b"#9 0.123 "),
    "rawjson, one long line": long_line(RAWJSON, b'{"logs":[{"vertex":"sha256:'),
    "classic, one long line": long_line(CLASSIC, b"Step 3/9 : RUN "),
    "plain, 10 million lines": many_lines(PLAIN, b"#9 1.0 a\n"),
    "rawjson, 10 million lines": many_lines(RAWJSON, b'{"logs":[]}\n'),
    "classic, 10 million lines": many_lines(CLASSIC, b"a\n"),
}


def peak_megabytes() -> float:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job: tuple[str, float]) -> tuple[float, float, float, int]:
    """Read one case; returns the megabytes above idle, with and without the reading itself, seconds, and builds."""
    name, size = job
    read_builds([b""])
    idle = peak_megabytes()
    started = time.process_time()
    reader = LogReader()
    for chunk in CASES[name](size):
        reader.feed(chunk)
    reader.finish()
    fed = peak_megabytes()
    reading = reader.reading()
    return peak_megabytes() - idle, fed - idle, time.process_time() - started, len(reading.builds)


def main() -> int:
    """Print the table; the exit code says whether every case keeps the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--only", default="", help="a part of the names of the cases")
    options = parser.parse_args()
    failed = 0
    print(f"{'case':<40}{'above idle':>12}{'while read':>12}{'CPU':>9}{'builds':>8}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(name, options.gigabytes * 1e9) for name in CASES if options.only in name]
        for (name, _), (above, fed, seconds, builds) in zip(jobs, pool.imap(measure, jobs), strict=True):
            verdict = "" if above <= LIMIT_MEGABYTES else f"  over {LIMIT_MEGABYTES} MB"
            failed += bool(verdict)
            print(f"{name:<40}{above:>9.1f} MB{fed:>9.1f} MB{seconds:>7.1f} s{builds:>8}{verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

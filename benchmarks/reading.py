"""How fast logs are read: CPU time of `read_builds` against ripgrep and orjson on the same file, as ratios in one run.

    python benchmarks/reading.py [--megabytes 100] [--only plain]

The logs are the tests' real ones, repeated. Targets (issue 3): BuildKit plain at least 0.15 of `rg -c 'CACHED|DONE'`,
rawjson at least half of `orjson.loads` line by line, classic with stamps at least 0.05 of `rg -c 'Using cache'`.
"""

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import orjson

from benchmarks.corpus import pieces, write_log
from cachescope.reading import read_builds

CHUNK = 1024 * 1024
PLAIN_OUTPUT = re.compile(rb"#\d+ \d+\.\d+ ")
CLASSIC_OUTPUT = re.compile(rb"\S+Z (?! --->|Step |Success|Sending|Removing|\s*$)")


def read(path: Path) -> None:
    """Read a log as the command line does."""
    with path.open("rb") as file:
        read_builds(iter(lambda: file.read(CHUNK), b""))


def load_lines(path: Path) -> None:
    """Parse each line that is JSON and do nothing with it."""
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b'{"'):
                orjson.loads(line)


def search(pattern: str) -> Callable[[Path], None]:
    """Return what counts the lines that match a pattern with ripgrep."""

    def run(path: Path) -> None:
        subprocess.run([shutil.which("rg") or "rg", "-c", pattern, str(path)], stdout=subprocess.DEVNULL, check=False)

    return run


def cpu_seconds(work: Callable[[Path], None], path: Path, times: int = 2) -> float:
    """Return the least CPU time of some runs, children included."""
    best = float("inf")
    for _ in range(times):
        before = spent()
        work(path)
        best = min(best, spent() - before)
    return best


def spent() -> float:
    """Return the CPU time that this process and its children have used; `os.times` counts in hundredths only."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def with_long_output(path: Path, line: re.Pattern[bytes], size_bytes: int) -> Path:
    """Write a log in which each line of a step's output stands 200 times: builds as they are where steps talk much."""
    longer = path.with_suffix(".long.log")
    with path.open("rb") as source, longer.open("wb") as file:
        while file.tell() < size_bytes and (lines := source.readlines(CHUNK)):
            file.write(b"".join(text * 200 if line.match(text) else text for text in lines))
    return longer


def stamped(path: Path, log_format: str, size_bytes: int) -> Path:
    """Write logs of a format with a stamp in front of every line."""
    logs = [log for log in pieces(log_format) if not re.match(rb"(?:\xef\xbb\xbf)?\d{4}-", log)]
    text = b"".join(b"2026-11-23T17:05:50.5824892Z " + line for log in logs for line in log.splitlines(keepends=True))
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            file.write(text)
    return path


def report(name: str, path: Path, rival: str, work: Callable[[Path], None], target: float) -> None:
    """Print one line of the table, and whether reading is linear."""
    size = path.stat().st_size / 1e6
    ours, theirs = cpu_seconds(read, path), cpu_seconds(work, path)
    half = path.with_suffix(".half")
    with path.open("rb") as whole, half.open("wb") as part:
        part.write(whole.read(path.stat().st_size // 2))
    growth = ours / cpu_seconds(read, half)
    half.unlink()
    ratio = theirs / ours
    verdict = "ok" if ratio >= target else "MISSED"
    with path.open("rb") as file:
        reading = read_builds(iter(lambda: file.read(CHUNK), b""))
    speed = f"{name:24} {size / ours:8.0f} MB/s  {ratio:6.3f} of {rival:24}"
    print(f"{speed} target {target:<5} {verdict:7} twice the size: {growth:.2f} times the time")
    steps = sum(len(build.steps) for build in reading.builds)
    print(f"{'':24} {len(reading.builds):,} builds, {steps:,} steps; {'; '.join(reading.warnings[:2])[:200]}")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if options.only in "plain":
            path = write_log(scratch / "plain.log", "buildkit_plain", size)
            report("buildkit plain", path, "rg CACHED|DONE", search("CACHED|DONE"), 0.15)
            path = with_long_output(path, PLAIN_OUTPUT, size)
            report("plain, long output", path, "rg CACHED|DONE", search("CACHED|DONE"), 0.15)
        if options.only in "rawjson":
            path = write_log(scratch / "rawjson.log", "buildkit_rawjson", size)
            report("rawjson", path, "orjson.loads by line", load_lines, 0.5)
        if options.only in "classic":
            path = stamped(scratch / "classic.log", "classic", size)
            report("classic, stamped", path, "rg 'Using cache'", search("Using cache"), 0.05)
            path = with_long_output(path, CLASSIC_OUTPUT, size)
            report("classic, long output", path, "rg 'Using cache'", search("Using cache"), 0.05)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()

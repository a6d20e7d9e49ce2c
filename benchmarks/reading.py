"""How fast logs are read: CPU time of `read_builds` against ripgrep and orjson on the same file, as ratios in one run.

    python benchmarks/reading.py [--megabytes 100] [--only plain]

Targets (issue 3): BuildKit plain at least 0.15 of `rg -c 'CACHED|DONE'`, rawjson at least half of `orjson.loads` line
by line, classic with stamps at least 0.05 of `rg -c 'Using cache'`, on the mix of lines that real logs have.

That mix: the tests' real logs of the format, one after another, each time with digests of its own, and in every round
one build whose step talks much, as large a part of the round as it is of the corpus that acceptance is measured on:
40 % of the bytes of plain logs, 12 % of rawjson. Of classic logs it is 98 %, which leaves the builder's own words in
one line of a thousand: those logs are measured as they are, and once so. Plain logs with less and with more output
have lines of their own too. Ripgrep is at its fastest where nothing matches, so these have no target. Each ratio is
the median of several runs, one reader after the other. Steps are listed up to the reader's limit; of what follows
only the lines are counted.
"""

import argparse
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import orjson

from benchmarks.corpus import pieces, write_logs
from cachescope.reading import read_builds

Rival = tuple[str, Callable[[Path], None]]
CHUNK = 1024 * 1024
PLAIN_OUTPUT = re.compile(rb"#\d+ \d+\.\d+ ")
RAWJSON_OUTPUT = re.compile(rb'\{"logs":')
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


def cpu_seconds(work: Callable[[Path], None], path: Path, times: int = 1) -> float:
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


def mixed(log_format: str, output: re.Pattern[bytes], share: float, stamp: bytes = b"") -> list[bytes]:
    """Return the logs of one round: a format's real ones, and one that talks so much that it is this share of all."""
    logs = pieces(log_format)
    if stamp:
        bare = [log for log in logs if not re.match(rb"(?:\xef\xbb\xbf)?\d{4}-", log)]
        logs = [b"".join(stamp + line for line in log.splitlines(keepends=True)) for log in bare]
    told = [sum(len(line) for line in log.splitlines(keepends=True) if output.match(line)) for log in logs]
    longest = told.index(max(told))
    wanted = sum(map(len, logs)) * share / (1 - share)
    times = round(wanted / max(told))
    lines = logs[longest].splitlines(keepends=True)
    if times > 1:
        logs.append(b"".join(line * times if output.match(line) else line for line in lines))
    return logs


def report(case: str, path: Path, rival: Rival, target: float | None, times: int) -> None:
    """Print one line of the table, and whether reading is linear."""
    size = path.stat().st_size / 1e6
    pairs = [(cpu_seconds(read, path), cpu_seconds(rival[1], path)) for _ in range(times)]
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    ratio, ours = statistics.median(ratios), min(ours for ours, _ in pairs)
    half = path.with_suffix(".half")
    with path.open("rb") as whole, half.open("wb") as part:
        part.write(whole.read(path.stat().st_size // 2))
    growth = ours / cpu_seconds(read, half, times)
    half.unlink()
    verdict = "" if target is None else f"target {target} {'ok' if ratio >= target else 'MISSED'}"
    with path.open("rb") as file:
        reading = read_builds(iter(lambda: file.read(CHUNK), b""))
    speed = f"{case:26} {size / ours:6.0f} MB/s  {ratio:6.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) of {rival[0]:22}"
    print(f"{speed} {verdict:18} twice the size: {growth:.2f} times the time", flush=True)
    steps = sum(len(build.steps) for build in reading.builds)
    print(f"{'':26} {len(reading.builds):,} builds, {steps:,} steps; {'; '.join(reading.warnings[:2])[:200]}")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--only", default="", help="a part of the names of the cases")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "build.log"
        for name, log_format, output, share, stamp, rival, target in CASES:
            if options.only in name:
                write_logs(path, mixed(log_format, output, share, stamp), options.megabytes * 1_000_000)
                report(name, path, rival, target, options.times)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


STAMP = b"2026-11-23T17:05:50.5824892Z "
PLAIN = ("rg CACHED|DONE", search("CACHED|DONE"))
RAWJSON = ("orjson.loads by line", load_lines)
CLASSIC = ("rg 'Using cache'", search("Using cache"))
CASES: list[tuple[str, str, re.Pattern[bytes], float, bytes, Rival, float | None]] = [
    ("plain", "buildkit_plain", PLAIN_OUTPUT, 0.4, b"", PLAIN, 0.15),
    ("plain, little output", "buildkit_plain", PLAIN_OUTPUT, 0.0, b"", PLAIN, None),
    ("plain, much output", "buildkit_plain", PLAIN_OUTPUT, 0.98, b"", PLAIN, None),
    ("rawjson", "buildkit_rawjson", RAWJSON_OUTPUT, 0.12, b"", RAWJSON, 0.5),
    ("rawjson, much output", "buildkit_rawjson", RAWJSON_OUTPUT, 0.98, b"", RAWJSON, None),
    ("classic, stamped", "classic", CLASSIC_OUTPUT, 0.0, STAMP, CLASSIC, 0.05),
    ("classic, much output", "classic", CLASSIC_OUTPUT, 0.98, STAMP, CLASSIC, None),
]


if __name__ == "__main__":
    main()

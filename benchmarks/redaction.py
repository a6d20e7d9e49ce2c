"""How fast secrets are taken out of logs: CPU time of the redactor against ripgrep on the same file, as ratios.

    python benchmarks/redaction.py [--megabytes 100]

The logs are the tests' real ones, repeated: text and rawjson; then the same text with a secret in every hundredth line,
and in every line, which is the worst that a log can do. `rg -c 'CACHED|DONE'` is what reading is measured against, too.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.corpus import pieces, write_log
from cachescope.redaction import Redactor

CHUNK = 1024 * 1024


def redact(path: Path) -> int:
    """Redact a log as push and the server do; returns the number of replacements."""
    redactor = Redactor()
    with path.open("rb") as file:
        for _ in redactor.redact_chunks(iter(lambda: file.read(CHUNK), b"")):
            pass
    return redactor.replacements


def search(path: Path) -> None:
    """Count the lines that a builder's states stand in."""
    command = [shutil.which("rg") or "rg", "-c", "CACHED|DONE", str(path)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def cpu_seconds(work: Callable[[Path], object], path: Path, times: int = 3) -> float:
    """Return the least CPU time of some runs, children included."""
    best = float("inf")
    for _ in range(times):
        before = os.times()
        work(path)
        after = os.times()
        best = min(best, sum(after[:4]) - sum(before[:4]))
    return best


def with_secrets(path: Path, log: bytes, every: int, size_bytes: int) -> Path:
    """Write a log in which every so many lines hold a token."""
    token = b" NPM_TOKEN=npm_" + b"aB3xY" * 7 + b"q"  # made up here: no scanner finds it in this file
    lines = log.splitlines()
    text = b"\n".join(line + token if number % every == 0 else line for number, line in enumerate(lines)) + b"\n"
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            file.write(text)
    return path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=100)
    size = parser.parse_args().megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = b"".join(pieces("buildkit_plain"))
        logs = {
            "text": write_log(folder / "text.log", "buildkit_plain", size),
            "rawjson": write_log(folder / "rawjson.log", "buildkit_rawjson", size),
            "secret in 1 %": with_secrets(folder / "some.log", text, 100, size // 4),
            "secret in 100 %": with_secrets(folder / "all.log", text, 1, size // 20),
        }
        print(f"{'log':<16} {'MB':>6} {'MB/s CPU':>9} {'of rg':>7} {'half size':>10} {'replaced':>9}")
        for label, path in logs.items():
            half = path.with_suffix(".half")
            half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            ours, theirs = cpu_seconds(redact, path), cpu_seconds(search, path)
            growth = ours / cpu_seconds(redact, half)
            megabytes = path.stat().st_size / 1e6
            print(
                f"{label:<16} {megabytes:>6.0f} {megabytes / ours:>9.0f} {theirs / ours:>7.3f} {growth:>9.2f}x "
                f"{redact(half) * 2:>9,}"
            )


if __name__ == "__main__":
    main()

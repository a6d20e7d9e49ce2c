"""Makes large logs out of the real ones that the tests read."""

import re
from collections.abc import Iterator
from pathlib import Path

FORMATS = Path(__file__).parent.parent / "tests" / "cachescope" / "formats"
_DIGEST = re.compile(rb"(sha256:[0-9a-f]{56})[0-9a-f]{8}")


def pieces(log_format: str) -> list[bytes]:
    """Return the bare logs of one format, each ending at a line end; those of CI wrappers and cut ones are left out."""
    names = [path for path in sorted((FORMATS / log_format).glob("*.log")) if not path.stem.startswith(("in_", "cut_"))]
    logs = [path.read_bytes() for path in names]
    return [log if log.endswith(b"\n") else log + b"\n" for log in logs]


def write_log(path: Path, log_format: str, size_bytes: int) -> Path:
    """Write logs of one format, one after another, until the file has the size; returns the path."""
    return write_logs(path, pieces(log_format), size_bytes)


def write_logs(path: Path, logs: list[bytes], size_bytes: int) -> Path:
    """Write these logs again and again until the file has the size; returns the path.

    Each copy gets digests of its own: the same vertex told again would be no new build.
    """
    with path.open("wb") as file:
        for number, log in enumerate(_forever(logs)):
            if file.tell() >= size_bytes:
                return path
            file.write(_DIGEST.sub(b"\\g<1>%08x" % number, log))
    return path


def _forever(logs: list[bytes]) -> Iterator[bytes]:
    while logs:
        yield from logs

"""Find cache regressions in a history of builds: one build a line on standard input, alerts on standard output."""

import os
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import orjson
import typer

from cachescope.detecting import Detector, observed_build
from cachescope.errors import UnreadableInputError

LONGEST_LINE = 16 * 1024 * 1024


def command(
    *,
    default_branch: Annotated[str, typer.Option(help="The branch that releases are built from.")] = "main",
) -> None:
    """Find cache regressions in a history of builds.

    Reads one build a line as JSON, oldest first (docs/detect.md lists the fields), and prints one alert a line as soon
    as it is sure: opened, reopened, updated or resolved. With ALERTS_ACK=1 in the environment each build is answered
    with a line {"ack": id}, so that whoever writes the builds can wait for it. Exit status 2 when a line cannot be
    read.
    """
    detectors: dict[str, Detector] = {}
    acknowledge = os.environ.get("ALERTS_ACK") == "1"
    for number, line in enumerate(_lines(sys.stdin.buffer), start=1):
        try:
            build = observed_build(orjson.loads(line), default_branch)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise UnreadableInputError(f"Line {number} is not a build: {reason}.") from error
        answer = b"".join(
            orjson.dumps({**alert.document(), "repo": alert.repository}, option=orjson.OPT_APPEND_NEWLINE)
            for alert in detectors.setdefault(build.repository, Detector()).observe(build)
        )
        if acknowledge:
            answer += orjson.dumps({"ack": build.id}, option=orjson.OPT_APPEND_NEWLINE)
        if answer:
            sys.stdout.buffer.write(answer)
            sys.stdout.buffer.flush()


def _lines(source: BinaryIO) -> Iterator[bytes]:
    while line := source.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise UnreadableInputError(f"A line is longer than {LONGEST_LINE // 1024**2} MiB, which no build is.")
        if line.strip():
            yield line

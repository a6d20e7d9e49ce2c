"""Leave the build tools out of the image with a second stage.

An image that compiles and then ships on the same base carries compilers and sources that nobody runs: hundreds of
megabytes that every client pulls. With a second stage only the result is copied:

    FROM golang:1.23 AS build
    …
    FROM gcr.io/distroless/static
    COPY --from=build /out/app /app

Fires when the only stage stands on an image of build tools (golang, rust, gcc, maven, gradle, an SDK) and compiles. It
saves size and pull time, not build time. Which files a program needs at run time cannot be read from a Dockerfile, so a
patch is offered in the plainest case only: a Go program is compiled to the very file that CMD or ENTRYPOINT runs, and
the repository (`--repository`) holds nothing but sources. Its second stage takes that file and the
certificates; a build and a start must check it.
"""

import posixpath
import re
from collections.abc import Iterable

from cachescope.dockerfile import LAYER_KEYWORDS, Instruction, Stage
from cachescope.history import History
from cachescope.recommendations.base import Recommendation, edit_lines, make_patch

_TOOLS = re.compile(r"(?:.*/)?(?:golang|rust|gcc|maven|gradle|sdk)(?:[:@].*)?")
_BASE = re.compile(r"(?:docker\.io/library/)?(golang):[\d.]{1,12}(?:-(bookworm|bullseye|trixie|alpine[\d.]{0,6}))?")
_OUTPUT = re.compile(r"\bgo build (?:-\S{1,80} ){0,6}-o[ =](\S{1,200})(?: \S{1,200})?$")
_SOURCE = re.compile(
    r"\.(?:go|mod|sum|md)$|^\.github/|(?:^|/)(?:Dockerfile|Makefile|LICENSE|\.dockerignore|\.git\w{1,20})$"
)
_OF_THE_IMAGE = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "USER", "LABEL", "STOPSIGNAL", "HEALTHCHECK", "VOLUME")
_COMPILES = re.compile(
    r"\b(?:go build|go install|cargo build|cargo install|make|gcc|g\+\+|mvn|gradle|gradlew|dotnet publish)\b"
)


_RUNS_TOOLS = re.compile(
    r"\b(?:go (?:run|test|build|tool)|cargo|mvnw?|gradlew?|make|dotnet (?:run|watch|test)|air|reflex|bash|tail|sleep)\b"
)
"""Commands of images that need their tools when they run: for development, tests, or to work in by hand."""


class ShippedBuildTools:
    """Looks at images of a single stage."""

    def advise(self, history: History) -> Iterable[Recommendation]:
        """Look through a history."""
        if len(history.dockerfile.stages) != 1:
            return
        (stage,) = history.dockerfile.stages
        base = history.dockerfile.base_reference(stage)
        compiles = [i for i in stage.instructions if i.keyword == "RUN" and _COMPILES.search(i.arguments)]
        starts = [i for i in stage.instructions if i.keyword in ("CMD", "ENTRYPOINT")]
        # An image without a command is a tool box or a base for others.
        if (
            not _TOOLS.fullmatch(base)
            or not compiles
            or not starts
            or any(_RUNS_TOOLS.search(" ".join(i.words)) for i in starts)
        ):
            return
        yield Recommendation(
            title="Leave the build tools out of the image",
            why=f"The image ships {base} with its compilers and the sources, although it only runs the result.",
            evidence=(f"Line {compiles[-1].first_line} compiles, line {starts[-1].first_line} runs the result.",),
            patch=_patch(history, stage, base, compiles[-1], starts),
            order_safe=False,
            saving_seconds_per_build=None,
        )


def _patch(history: History, stage: Stage, base: str, compiles: Instruction, starts: list[Instruction]) -> str | None:
    """Return the edit that puts the program into a stage of its own; None where it may need more than itself."""
    image = _BASE.fullmatch(base)
    output = _OUTPUT.search(compiles.arguments)
    files = history.context_files
    if image is None or output is None or files is None or stage.name is not None or compiles != _last_layer(stage):
        return None
    if not all(_SOURCE.search(path) for path in files):
        return None
    folders = [i.arguments for i in stage.instructions if i.keyword == "WORKDIR"]
    folder = folders[-1] if folders else "/"
    program = _absolute(output[1], folder)
    runs = next((i for i in starts if i.keyword == "ENTRYPOINT"), starts[-1])
    if not folder.startswith("/") or "$" in program or not runs.words or _absolute(runs.words[0], folder) != program:
        return None
    kept = [i for i in stage.instructions[1:] if i.keyword in _OF_THE_IMAGE]
    users = [i.arguments for i in kept if i.keyword == "USER"]
    if any(not user.split(":")[0].isdecimal() for user in users):
        return None
    text = history.dockerfile.text.split("\n")
    rest = [row for i in kept for row in text[i.first_line - 1 : i.last_line]]
    runtime = f"alpine:{image[2][6:] or 'latest'}" if (image[2] or "").startswith("alpine") else "debian:stable-slim"
    last = stage.instructions[-1]
    head = text[stage.first_line - 1]
    below = [
        "",
        f"FROM {runtime}",
        "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
        f"WORKDIR {folder}",
        f"COPY --from=build {program} {program}",
        *rest,
    ]
    edits: list[tuple[int, int, list[str]]] = [
        (i.first_line, i.last_line, []) for i in kept if i.position > compiles.position
    ]
    edits += [
        (stage.first_line, stage.first_line, [f"{head.rstrip()} AS build"]),
        (last.last_line + 1, last.last_line, below),
    ]
    return make_patch(history.dockerfile_path, history.dockerfile.text, edit_lines(history, edits))


def _last_layer(stage: Stage) -> Instruction:
    return [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS][-1]


def _absolute(path: str, folder: str) -> str:
    return posixpath.normpath(path if path.startswith("/") else f"{folder}/{path}")


RECOMMENDATION = ShippedBuildTools()

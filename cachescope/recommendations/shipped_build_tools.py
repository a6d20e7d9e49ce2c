"""Leave the build tools out of the image with a second stage.

An image that compiles and then ships on the same base carries compilers and sources that nobody runs: hundreds of
megabytes that every client pulls. With a second stage only the result is copied:

    FROM golang:1.23 AS build
    …
    FROM gcr.io/distroless/static
    COPY --from=build /out/app /app

Fires when the only stage stands on an image of build tools (golang, rust, gcc, maven, gradle, an SDK) and compiles. No
patch is offered: which files the program needs at run time cannot be read from the Dockerfile. It saves size and pull
time, not build time.
"""

import re
from collections.abc import Iterable

from cachescope.history import History
from cachescope.recommendations.base import Recommendation

_TOOLS = re.compile(r"(?:.*/)?(?:golang|rust|gcc|maven|gradle|sdk)(?:[:@].*)?")
_COMPILES = re.compile(
    r"\b(?:go build|go install|cargo build|cargo install|make|gcc|g\+\+|mvn|gradle|gradlew|dotnet publish)\b"
)


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
        if not _TOOLS.fullmatch(base) or not compiles or not starts:
            return
        yield Recommendation(
            title="Leave the build tools out of the image",
            why=f"The image ships {base} with its compilers and the sources, although it only runs the result.",
            evidence=(f"Line {compiles[-1].first_line} compiles, line {starts[-1].first_line} runs the result.",),
            patch=None,
            order_safe=False,
            saving_seconds_per_build=None,
        )


RECOMMENDATION = ShippedBuildTools()

"""One break beside the build it is compared with: everything that a cause may look at."""

from dataclasses import dataclass, field

from cachescope.evidence import Evidence
from cachescope.lineage import Lineage
from cachescope.model import Build, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A missed step of `after`, the same instruction in `before`, and the evidence about both builds."""

    after: Build
    position: int
    """The missed step, as a position in `after.steps`."""
    lineage: Lineage
    """The edges of `after`."""
    before: Build | None = None
    """The baseline; None when the image was never built before."""
    matches: tuple[int | None, ...] = ()
    """Per step of `after` the position of the same instruction in `before`."""
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def step(self) -> Step:
        """The missed step."""
        return self.after.steps[self.position]

    @property
    def counterpart(self) -> Step | None:
        """The same instruction in the baseline."""
        match = self.matches[self.position] if self.matches else None
        return self.before.steps[match] if self.before is not None and match is not None else None

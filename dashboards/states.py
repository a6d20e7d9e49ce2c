"""The state of a step on a page: one word, one colour, one shape, always the three together."""

from dataclasses import dataclass

from store.models import Step


@dataclass(frozen=True, slots=True)
class State:
    """How a step is drawn and called."""

    name: str
    """Colour and shape: hit, expected, miss, failed, none, unknown, running, canceled."""
    word: str
    is_break: bool = False
    help: str = ""


HIT = State("hit", "hit", help="Served from cache.")
EXPECTED = State("expected", "expected miss", help="It ran, and what the commit changed explains why.")
UNEXPECTED = State("miss", "unexpected miss", help="It ran although nothing that the commit changed explains it.")
MISS = State("miss", "miss", help="It ran; the log does not tell whether that was to be expected.")
NOT_CACHEABLE = State("none", "not cacheable", help="No cache could serve this step; it is not counted.")
UNKNOWN = State("unknown", "unknown", help="The log does not say whether it hit or missed.")
FAILED = State("failed", "failed", help="The build stopped here.")
CANCELED = State("canceled", "canceled", help="It was stopped before it ended.")
RUNNING = State("running", "running", help="It had not ended when the log did.")

LEGEND = (HIT, EXPECTED, UNEXPECTED, State("miss", "break", is_break=True), NOT_CACHEABLE, UNKNOWN, FAILED)


def state_of(step: Step, expected: bool | None = None) -> State:
    """The state of a step; `expected` is that of the break whose cascade it stands in, where it is no break itself."""
    match step.status:
        case "failed":
            return FAILED
        case "canceled":
            return CANCELED
        case "running":
            return RUNNING
    if step.kind != "instruction" or step.instruction == "FROM":
        return NOT_CACHEABLE
    if step.cached is None:
        return UNKNOWN
    if step.cached:
        return HIT
    # ENV, LABEL and their like are not counted, but one may break the cache of what stands below it, or fall with it.
    if not step.cacheable and not step.is_break and step.break_position is None:
        return NOT_CACHEABLE
    known = step.expected if step.expected is not None else expected
    miss = {True: EXPECTED, False: UNEXPECTED, None: MISS}[known]
    if not step.is_break:
        return miss
    word = {True: "break, expected", False: "break, unexpected", None: "break"}[known]
    return State(miss.name, word, is_break=True, help="The first miss on its chain: it busted the cache. " + miss.help)

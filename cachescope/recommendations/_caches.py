"""How builds began and what they imported and exported, for the advice about caches outside the builder."""

from dataclasses import dataclass

from cachescope.history import History
from cachescope.invocation import read_invocation

_ADDRESS = ("type", "ref", "scope", "dest", "bucket", "region", "name", "endpoint_url", "account_url")
_LOST = ("cache_lost", "cache_not_imported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """How many builds began on an empty builder, and what that cost."""

    builds: int
    """The builds after the first one."""
    empty: int
    saving: float
    """What a full cache would have spared, seconds per build."""
    exports: bool
    """Whether any build exported a cache."""
    imports: bool
    """Whether any build imported one successfully."""
    is_buildkit: bool
    """Whether BuildKit built: the others call their caches by other options."""

    @property
    def is_usual(self) -> bool:
        """Whether that happens too often to be chance, on a builder that knows the options of these caches."""
        return self.is_buildkit and self.empty >= 2 and 3 * self.empty >= self.builds


def emptied_builds(history: History) -> Emptied:
    """Count the builds that missed everything on an empty builder."""
    builds = [history.comparisons[b] for b in history.later_builds]
    costs = [sum(b.cost_seconds or 0.0 for b in c.breaks if b.cause in _LOST) for c in builds]
    return Emptied(
        builds=len(builds),
        empty=sum(bool(c.breaks) and all(b.cause in _LOST for b in c.breaks) for c in builds),
        saving=sum(costs) / len(builds) if builds else 0.0,
        exports=any(past.build.cache_exports for past in history.builds),
        imports=any(t.succeeded for c in builds for t in c.build.cache_imports),
        is_buildkit=all(c.build.builder == "buildkit" for c in builds),
    )


def cache_words(history: History, direction: str) -> str:
    """Write the option that imports (`from`) or exports (`to`) the cache, with the address where it is known."""
    words = next((past.command for past in reversed(history.builds) if past.command), None)
    options = read_invocation(words).cache_to if words is not None else ()
    mode = ",mode=max" if direction == "to" else ""
    if not options:
        imported = [t.ref for past in history.builds for t in past.build.cache_imports if t.ref and "/" in t.ref]
        return f"--cache-{direction} type=registry,ref={imported[-1] if imported else 'REGISTRY/APP:cache'}{mode}"
    written = options[0] if "=" in options[0] else f"type=registry,ref={options[0]}"
    kept = [part for part in written.split(",") if part.partition("=")[0] in _ADDRESS]
    if direction == "from":
        kept = [part.replace("dest=", "src=", 1) if part.startswith("dest=") else part for part in kept]
    return f"--cache-{direction} {','.join(kept)}{mode}"

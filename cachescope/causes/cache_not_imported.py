"""The builder began empty and the cache that should have filled it was not imported: it failed or was not asked for."""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class CacheNotImported:
    """Compares the imports of both builds."""

    rank = 6

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None or pair.moved_base or not pair.has_same_text or not pair.has_same_place:
            return None
        imports = pair.after.build.cache_imports
        earlier = pair.before.build.cache_imports
        failed = [transfer for transfer in imports if transfer.succeeded is False]
        had_one = any(transfer.succeeded for transfer in earlier)
        nothing_hit = pair.background.nothing_hit
        if failed and len(failed) == len(imports):
            evidence = tuple(f"The import of {t.ref or 'the cache'} failed." for t in failed)
            if not nothing_hit:
                return Verdict(weight=Weight.POSSIBLE, evidence=evidence, expected=False)
            more = ("It worked in the earlier build.",) if had_one else ()
            weight = Weight.CERTAIN if had_one or pair.background.builder_is_empty else Weight.LIKELY
            return Verdict(weight=weight, evidence=evidence + more, expected=False)
        asked_before = had_one or _asks(pair, before=True)
        if not imports and asked_before and not _asks(pair, before=False) and nothing_hit:
            weight = Weight.CERTAIN if pair.background.builder_is_empty else Weight.LIKELY
            evidence = ("The earlier build imported a cache, this one asks for none and began with an empty builder.",)
            return Verdict(weight=weight, evidence=evidence, expected=False)
        return None


def _asks(pair: Pair, *, before: bool) -> bool:
    side = pair.before if before else pair.after
    return side is not None and side.invocation is not None and bool(side.invocation.cache_from)


CAUSE = CacheNotImported()

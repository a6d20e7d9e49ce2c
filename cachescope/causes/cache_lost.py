"""Nothing changed and the entry was gone: evicted, pruned, or never on this runner.

An empty builder fetches its base images again. A WORKDIR that missed with the same text on the same base proves it too:
neither ENV nor ARG nor `--no-cache` is in its key.
"""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class CacheLost:
    """Proven by an empty builder or a missed WORKDIR, else what remains when nothing else can be."""

    rank = 7

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None or not pair.has_same_text or not pair.has_same_place:
            return None
        if pair.moved_base or pair.untold_bases or pair.has_new_base_reference or _import_explains(pair):
            return None
        if pair.background.builder_is_empty:
            evidence = ("Everything missed and the base images were fetched again: the builder was empty.",)
            return Verdict(
                weight=Weight.LIKELY if pair.reads_context else Weight.CERTAIN, evidence=evidence, expected=False
            )
        if pair.is_lost_workdir:
            evidence = ("WORKDIR missed on the same base: nothing but a lost entry makes it miss.",)
            return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=False)
        if pair.background.lost_everything:
            evidence = ("Nothing hit, not even a WORKDIR on the same base: the cache is gone.",)
            return Verdict(weight=Weight.LIKELY, evidence=evidence, expected=False)
        if pair.background.runners is not None and _nothing_else_is_open(pair):
            old, new = pair.background.runners
            evidence = (f"Nothing changed, and it ran on {new}: the earlier build filled the cache of {old}.",)
            return Verdict(weight=Weight.LIKELY, evidence=evidence, expected=False)
        return Verdict(
            weight=Weight.POSSIBLE,
            evidence=("Nothing is known to have changed; the entry may have been pruned or evicted.",),
            expected=False,
        )


def _import_explains(pair: Pair) -> bool:
    imports = pair.after.build.cache_imports
    return bool(imports) and all(transfer.succeeded is False for transfer in imports)


def _nothing_else_is_open(pair: Pair) -> bool:
    """Tell whether the evidence is complete: the line and its arguments are the same and the files are known."""
    are_files_known = not pair.reads_context or pair.changed_files is not None
    is_line_known = pair.dockerfile_is_same or pair.has_same_definition
    return is_line_known and are_files_known and pair.after.invocation is not None


CAUSE = CacheLost()

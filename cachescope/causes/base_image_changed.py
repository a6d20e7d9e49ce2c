"""The image behind FROM is another one than before, under the same name: a tag was pushed again.

BuildKit prints the digest on the FROM line, the classic builder the image's id below it; buildah prints neither, there
everything misses without a word.
"""

from cachescope.causes.base import Verdict, Weight
from cachescope.model import BaseImage
from cachescope.pair import Pair


class BaseImageChanged:
    """Proven by two digests of one reference that the Dockerfile does not pin."""

    rank = 2

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None:
            return None
        if moved := pair.moved_base:
            old, new = moved
            if pair.base_is_pinned:
                return None
            return Verdict(
                weight=Weight.CERTAIN,
                evidence=(f"{new.reference} was {_short(old)} and is {_short(new)} now.",),
                expected=False,
            )
        if pair.moved_bases and not pair.base_is_pinned:
            new = pair.moved_bases[0][1]
            return Verdict(
                weight=Weight.POSSIBLE,
                evidence=(f"{new.reference} moved; the Dockerfile would tell whether this stage stands on it.",),
                expected=False,
            )
        if pair.untold_bases and pair.has_same_text:
            name = pair.untold_bases[0].reference
            evidence = f"FROM {name} means another image: its tag moved, or an ARG has another value."
            return Verdict(weight=Weight.POSSIBLE, evidence=(evidence,), expected=False)
        is_untold = not pair.stands_on_known_base and not pair.has_new_base_reference
        if is_untold and pair.is_below_base and pair.has_same_text:
            return Verdict(
                weight=Weight.POSSIBLE,
                evidence=("The log does not print which image the base was; another one may lie behind the tag.",),
                expected=False,
            )
        return None


def _short(image: BaseImage) -> str:
    algorithm, _, digest = (image.digest or image.id or "").rpartition(":")
    return f"{algorithm}:{digest[:12]}" if algorithm else digest[:12]


CAUSE = BaseImageChanged()

"""A file that the step reads changed: its content, its mode, or a file that came or went.

COPY, ADD and bind mounts read the build context. A changed file counts only if the sources name it and `.dockerignore`
does not keep it out. Times are in no key; modes are, and git records only the executable bit: a checkout with another
umask misses although the commit is empty. BuildKit sends only what its copy of the context lacks, so more bytes than
before mean changed files; fewer mean nothing.
"""

from cachescope.causes.base import Verdict, Weight
from cachescope.pair import Pair


class FilesChanged:
    """Holds the changed files against the sources, else weighs what was sent."""

    rank = 5

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None or pair.moved_base:
            return None
        if pair.is_remote_add and pair.has_same_text:
            return Verdict(
                weight=Weight.POSSIBLE, evidence=("What the address serves may have changed.",), expected=False
            )
        if not pair.reads_context:
            return _from_a_hit_above(pair)
        if found := pair.changed_files:
            names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            return Verdict(
                weight=Weight.LIKELY if pair.has_guessed_sources else Weight.CERTAIN,
                evidence=(f"It reads {names}, changed by the commit.",),
                expected=True,
                files=found,
            )
        if not pair.has_same_text or pair.background.builder_is_empty or not pair.has_same_place or pair.untold_bases:
            return None
        if pair.may_be_named_unignored:
            return Verdict(
                weight=Weight.LIKELY,
                evidence=("It reads files that the commit changed, unless .dockerignore keeps them out.",),
                expected=True,
            )
        is_listed = pair.changed_files is not None
        if pair.background.ignore_rules_changed and pair.named_context is None:
            return Verdict(
                weight=Weight.LIKELY,
                evidence=("The rules in .dockerignore changed.",),
                expected=True,
                files=(".dockerignore",),
            )
        if pair.background.context_grew(pair.named_context) and pair.keyword != "RUN":
            old, new = pair.background.context_bytes(pair.named_context)
            reason = f"The builder had to be sent more of the context than before ({old} → {new} bytes)."
            unrecorded = "No file that it reads is in the commit: a mode or a file that git does not record."
            linked = "No file that it reads is in the commit, but one that it may reach through a link."
            is_linked = is_listed and pair.has_unread_changes
            more = (linked if is_linked else unrecorded,) if is_listed else ()
            return Verdict(weight=Weight.LIKELY, evidence=(reason, *more), expected=is_linked or not is_listed)
        what = "A file mode that git does not record may have changed." if is_listed else "A file may have changed."
        tells = "" if is_listed else " The changed files of the commit would tell."
        return Verdict(weight=Weight.POSSIBLE, evidence=(what + tells,), expected=not is_listed)


def _from_a_hit_above(pair: Pair) -> Verdict | None:
    """A step above may have hit in a former state: what it reads changed, and this step has not run on it yet."""
    if not pair.has_same_text or not pair.changed_files_above:
        return None
    return Verdict(
        weight=Weight.POSSIBLE,
        evidence=("A step above hit with other files than before.",),
        expected=True,
    )


CAUSE = FilesChanged()

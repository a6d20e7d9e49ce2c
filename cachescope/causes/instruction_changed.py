"""The Dockerfile changed: the instruction's text, what stands above it, ENV, SHELL, USER, or the body of a heredoc.

BuildKit prints the values of ARG and ENV inside the text of RUN, COPY and WORKDIR, so another text alone proves no
edit; and ENV, SHELL, USER and LABEL are no steps of their own there: an edit shows at the first RUN below. For the
classic builder and buildah every line is a step and is printed as written.
"""

from cachescope.causes.base import Verdict, Weight
from cachescope.dockerfile import Instruction
from cachescope.matching import normalize
from cachescope.pair import Pair

_OPAQUE = "the key holds what the log does not print (ENV, SHELL, heredocs)"
_PRINTED_VALUES = (
    "The text differs, but BuildKit prints the values of ARG and ENV inside it: "
    "the Dockerfile of both builds would tell."
)


class InstructionChanged:
    """Compares the two Dockerfiles where they are known, else what the two logs print."""

    rank = 3

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None or pair.dockerfile_is_same or pair.has_same_definition:
            return None
        if pair.moved_base and pair.base_is_pinned:
            return _proof("The digest that FROM pins was edited.")
        if pair.has_both_dockerfiles and pair.instruction is not None:
            return _compare_dockerfiles(pair)
        if not pair.background.dockerfile_may_have_changed(pair.after.build):
            return None
        return _compare_logs(pair)


def own_edits(pair: Pair) -> tuple[str, ...]:
    """Say how the line itself was edited, whatever stands above it; nothing where the Dockerfiles are not known."""
    new, old = pair.instruction, pair.instruction_before
    if new is None or not pair.has_both_dockerfiles:
        return ()
    if old is None:
        return (f"Line {new.first_line} of the Dockerfile is new.",)
    if new.text != old.text:
        return (f"Line {new.first_line} of the Dockerfile was edited.",)
    if [h.body for h in new.heredocs] != [h.body for h in old.heredocs]:
        return (f"The heredoc in line {new.first_line} of the Dockerfile was edited.",)
    return ()


def _compare_dockerfiles(pair: Pair) -> Verdict | None:
    edits = own_edits(pair)
    new, old = pair.instruction, pair.instruction_before
    if edits or new is None or old is None:
        return _proof(*edits)
    if pair.is_buildkit and new.keyword == "RUN":
        edits = _scope_edits(pair)
    if not edits and new.keyword != "RUN" and _expanded(pair, new) != _expanded(pair, old, before=True):
        edits = _scope_edits(pair)
    if not edits and not _stands_below_same_lines(pair, new, old):
        edits = (f"The lines above line {new.first_line} of the Dockerfile were edited.",)
    return _proof(*edits) if edits else None


def _scope_edits(pair: Pair) -> tuple[str, ...]:
    """Name what changed in ENV, SHELL, USER and the defaults of ARG; values from the command line are not counted."""
    old, new = pair.scope_before, pair.scope
    found = []
    given = {**(pair.before.arguments(pair.step.target) or {} if pair.before else {})}
    given |= pair.after.arguments(pair.step.target) or {}
    for name in sorted({*old.environment, *new.environment}):
        was, is_now = old.environment.get(name), new.environment.get(name)
        if was != is_now and not _comes_from_arguments(pair, name, given):
            found.append(_change(f"ENV {name}", was, is_now))
    defaults = [n for n in sorted({*old.arguments, *new.arguments}) if n not in given]
    found += [
        _change(f"the default of ARG {name}", old.arguments.get(name), new.arguments.get(name))
        for name in defaults
        if old.arguments.get(name) != new.arguments.get(name)
    ]
    if old.shell != new.shell:
        found.append("SHELL was edited.")
    if old.user != new.user:
        found.append(_change("USER", old.user or None, new.user or None))
    return tuple(found)


def _comes_from_arguments(pair: Pair, name: str, given: dict[str, str]) -> bool:
    """Tell whether an ENV has another value only because a build argument has."""
    if pair.before is None or not given:
        return False
    line_old = _env_line(pair.before.dockerfile(pair.step.target), pair.instruction_before, name)
    line_new = _env_line(pair.after.dockerfile(pair.step.target), pair.instruction, name)
    return line_old is not None and line_old == line_new and "$" in line_old


def _env_line(dockerfile: object, until: Instruction | None, name: str) -> str | None:
    lines = getattr(dockerfile, "instructions", ())
    found = [
        i.pairs[name]
        for i in lines
        if i.keyword == "ENV" and name in i.pairs and until is not None and i.position < until.position
    ]
    return found[-1] if found else None


def _expanded(pair: Pair, instruction: Instruction, *, before: bool = False) -> str:
    return (pair.scope_before if before else pair.scope).expand(instruction.text)


def _stands_below_same_lines(pair: Pair, new: Instruction, old: Instruction) -> bool:
    """Tell whether the layers above an instruction are the same lines in both Dockerfiles."""
    mine = pair.after.layers_above(pair.step.target, new)
    theirs = pair.before.layers_above(pair.step.target, old) if pair.before is not None else []
    return mine == theirs


def _compare_logs(pair: Pair) -> Verdict | None:
    if not pair.has_same_text:
        return _judge_new_text(pair)
    if pair.has_new_base_reference:
        weight = Weight.LIKELY if pair.background.dockerfile_size_changed else Weight.POSSIBLE
        return Verdict(weight=weight, evidence=("FROM names another image than before.",), expected=True)
    if pair.untold_bases and pair.before is not None:
        is_edited = pair.before.texts_above_stages != pair.after.texts_above_stages
        return _proof("An ARG above the first FROM was edited.") if is_edited else None
    if not pair.has_same_place:
        return _proof("The same instruction stood below other instructions before.")
    may_hide = (pair.is_buildkit and pair.keyword == "RUN") or "<<" in pair.step.text
    if not may_hide or pair.background.builder_is_empty:
        return None
    return Verdict(
        weight=Weight.POSSIBLE,
        evidence=(f"The text is the same, but {_OPAQUE}: the Dockerfile of both builds would tell.",),
        expected=True,
    )


def _judge_new_text(pair: Pair) -> Verdict:
    step, old = pair.step, pair.counterpart
    if not pair.is_buildkit:
        return _proof("The instruction is not in the earlier build.")
    if pair.is_shown_elsewhere:
        return _possible("The same instruction was shown under another target before.")
    if old is None and pair.stage_is_longer:
        return _proof("The instruction is not in the earlier build, and its stage has other steps than before.")
    if pair.background.dockerfile_size_changed or (old is not None and old.total != step.total):
        return Verdict(
            weight=Weight.LIKELY,
            evidence=("The text is not in the earlier build and the Dockerfile has another size.",),
            expected=True,
        )
    return Verdict(
        weight=Weight.POSSIBLE,
        evidence=(_PRINTED_VALUES,),
        expected=True,
    )


def _change(what: str, old: str | None, new: str | None) -> str:
    what = what[0].upper() + what[1:]
    if old is None:
        return f"{what} is new: {_quoted(new)}."
    if new is None:
        return f"{what} was taken out (it was {_quoted(old)})."
    return f"{what} was {_quoted(old)} and is {_quoted(new)}."


def _quoted(value: str | None) -> str:
    text = normalize(value or "") if value and " " in value else value or ""
    return f'"{text if len(text) <= 60 else text[:59] + "…"}"'


def _possible(evidence: str) -> Verdict:
    return Verdict(weight=Weight.POSSIBLE, evidence=(evidence,), expected=True)


def _proof(*evidence: str) -> Verdict:
    return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=True)


CAUSE = InstructionChanged()

"""A build argument has another value than before, from outside the commit (`--build-arg`, bake, CI variables).

Its value is in the key of every RUN below its ARG, whether or not the RUN mentions it. BuildKit prints the value where
the text names it and leaves the predefined proxy arguments out of every key; the classic builder does not. buildah
keeps the names of all arguments that have a value in the key of its ARG steps (seen with 1.28).
"""

from cachescope.causes.base import Verdict, Weight
from cachescope.dockerfile import NO_DEFAULT, PREDEFINED_ARGUMENTS, Instruction, variables
from cachescope.matching import normalize
from cachescope.pair import Pair


class BuildArgChanged:
    """Compares the arguments of both command lines where they are known, else asks whether one could be at work."""

    rank = 4

    def explain(self, pair: Pair) -> Verdict | None:
        """Judge one break."""
        if pair.before is None or pair.moved_base or pair.has_same_definition:
            return None
        old = pair.before.arguments(pair.step.target)
        new = pair.after.arguments(pair.step.target)
        if old is not None and new is not None:
            return _compare_arguments(pair, old, new)
        if pair.has_both_dockerfiles and pair.instruction is not None:
            return _judge_by_dockerfile(pair, pair.instruction)
        return _judge_by_logs(pair)


def _compare_arguments(pair: Pair, old: dict[str, str], new: dict[str, str]) -> Verdict | None:
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if not changed:
        return None
    if _is_argument_of_buildah(pair):
        return _compare_names(pair, old, new)
    in_force = [name for name in changed if _is_in_force(pair, name)]
    evidence = tuple(_change(name, old.get(name), new.get(name)) for name in in_force or changed)
    if pair.instruction is not None:
        if not in_force:
            return None
        return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=False)
    was, is_now = normalize(pair.counterpart.text) if pair.counterpart else "", normalize(pair.step.text)
    shows = any(new.get(n) and str(new[n]) in is_now and str(new[n]) not in was for n in changed)
    if not pair.has_same_text and not shows:
        return None
    if pair.keyword != "RUN" and not shows:
        return None
    return Verdict(weight=Weight.LIKELY if shows else Weight.POSSIBLE, evidence=evidence, expected=False)


def _is_argument_of_buildah(pair: Pair) -> bool:
    return pair.after.build.builder == "buildah" and pair.keyword == "ARG"


def _compare_names(pair: Pair, old: dict[str, str], new: dict[str, str]) -> Verdict | None:
    """Judge an ARG of buildah, which keeps the names of the arguments that have a value in its key, not the values."""
    came_or_went = old.keys() ^ new.keys()
    if pair.instruction is None:
        return _POSSIBLE if came_or_went else None
    own = {name for name, value in pair.instruction.pairs.items() if value == NO_DEFAULT}
    in_force = sorted(came_or_went & (own | pair.scope.declared | PREDEFINED_ARGUMENTS))
    if pair.is_below_base:
        in_force += [name for name in sorted(pair.arguments_of_base) if old.get(name) != new.get(name)]
    if not in_force:
        return None
    evidence = tuple(_change(name, old.get(name), new.get(name)) for name in in_force)
    return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=False)


def _is_in_force(pair: Pair, name: str) -> bool:
    """Tell whether a step's key holds an argument."""
    if name in PREDEFINED_ARGUMENTS:
        return pair.after.build.builder == "docker" and pair.keyword == "RUN"
    instruction = pair.instruction
    if instruction is None:
        return False
    if pair.is_new_stage and pair.dockerfile_is_same and name in pair.arguments_of_stages:
        return True
    if pair.is_below_base and name in pair.arguments_of_base:
        return True
    if name in pair.scope.declared | pair.scope.taken:
        old = pair.instruction_before or instruction
        was, is_now = pair.scope_before.expand(old.text), pair.scope.expand(instruction.text)
        return instruction.keyword == "RUN" or was != is_now
    return False


def _judge_by_dockerfile(pair: Pair, instruction: Instruction) -> Verdict | None:
    declared = (pair.scope.declared | pair.scope.taken) - PREDEFINED_ARGUMENTS - _AUTOMATIC
    if pair.untold_bases:
        return _POSSIBLE if pair.has_same_text and pair.arguments_of_base else None
    if pair.is_new_stage and pair.dockerfile_is_same:
        return _choice_of_stage(pair)
    if pair.has_new_base_reference and pair.arguments_of_base and pair.dockerfile_is_same:
        return Verdict(weight=Weight.CERTAIN, evidence=("FROM names another image by an ARG.",), expected=False)
    if _is_argument_of_buildah(pair):
        return _POSSIBLE if pair.has_same_text else None
    if not declared:
        is_proxy_possible = pair.after.build.builder == "docker" and instruction.keyword == "RUN" and pair.has_same_text
        return _POSSIBLE if is_proxy_possible else None
    old = pair.instruction_before
    if pair.is_buildkit and not pair.has_same_text and old is not None and old.text == instruction.text:
        # The same line is printed differently: only a value can be behind it.
        words = set(variables(instruction.text))
        named = sorted(words & declared)
        if words & pair.scope.environment.keys():
            # An ENV may hold the value of an ARG.
            named = named or sorted(pair.scope.taken & declared)
        if named and pair.dockerfile_is_same:
            evidence = (f"The line is the same, but BuildKit prints another value for {', '.join(named)}.",)
            return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=False)
    is_named = not pair.is_buildkit and bool(set(variables(instruction.text)) & declared)
    if (instruction.keyword != "RUN" and not is_named) or not pair.has_same_text:
        return None
    if printed := sorted(pair.arguments_printed_below & declared):
        evidence = (f"A line below it is the same, but is printed with another value for {', '.join(printed)}.",)
        return Verdict(weight=Weight.CERTAIN, evidence=evidence, expected=False)
    names = ", ".join(sorted(declared))
    return Verdict(
        weight=Weight.POSSIBLE,
        evidence=(f"{names} may have had another value: the command lines of both builds would tell.",),
        expected=False,
    )


def _choice_of_stage(pair: Pair) -> Verdict | None:
    """A line of an unchanged Dockerfile that was not built before: another stage was asked for, by ARG or by target."""
    names = ", ".join(sorted(pair.arguments_of_stages))
    if not names:
        return None
    evidence = (f"The Dockerfile is the same, but its stage was not built before: FROM names a stage by {names}.",)
    weight = Weight.POSSIBLE if pair.background.ends_elsewhere else Weight.LIKELY
    return Verdict(weight=weight, evidence=evidence, expected=False)


def _judge_by_logs(pair: Pair) -> Verdict | None:
    background = pair.background
    if background.builder_is_empty or (pair.has_same_text and not pair.has_same_place):
        return None
    if pair.has_same_text and pair.has_new_base_reference and not background.dockerfile_size_changed:
        return Verdict(weight=Weight.POSSIBLE, evidence=("FROM may name an image by an ARG.",), expected=False)
    if pair.untold_bases:
        return _POSSIBLE if pair.has_same_text else None
    if not pair.has_same_text:
        could_be = pair.is_buildkit and not background.dockerfile_size_changed
        if not could_be or pair.stage_total_changed or pair.stage_is_longer:
            return None
    elif pair.keyword == "RUN" or _is_argument_of_buildah(pair):
        return _POSSIBLE
    elif pair.is_buildkit or "$" not in pair.step.text:
        # Other builders print lines as written: a value may hide behind a `$`.
        return None
    return _POSSIBLE


_POSSIBLE = Verdict(
    weight=Weight.POSSIBLE,
    evidence=("A build argument may have had another value: the command lines of both builds would tell.",),
    expected=False,
)

_AUTOMATIC = frozenset(
    f"{side}{part}" for side in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}


def _change(name: str, old: str | None, new: str | None) -> str:
    # Values of arguments may be secrets: the evidence names them, it does not quote them.
    if old is None:
        return f"Build argument {name} is given now and was not before."
    if new is None:
        return f"Build argument {name} was given before and is not any more."
    return f"Build argument {name} has another value than before."


CAUSE = BuildArgChanged()

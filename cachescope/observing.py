"""A build as its log tells it, made into what the detector of regressions observes.

Builders announce steps as they come to run them; the detector wants the order of the Dockerfile. Stages are therefore
put in an order in which each stands after those that it copies from, and within a stage the printed numbers count.
"""

import hashlib
import re
from collections.abc import Collection, Mapping

from cachescope.expectations import ObservedBuild, ObservedStep
from cachescope.lineage import Chain, trace_lineage
from cachescope.matching import normalize
from cachescope.model import Build, Outcome, Step, StepKind

NO_LAYER = frozenset(
    (
        *("ARG", "ENV", "LABEL", "MAINTAINER", "USER", "EXPOSE", "VOLUME", "CMD"),
        *("ENTRYPOINT", "HEALTHCHECK", "STOPSIGNAL", "SHELL", "ONBUILD"),
    )
)
"""Instructions that leave nothing in a cache worth watching, in whatever log they are printed."""
MOST_STEPS = 400
"""More instructions than this are no Dockerfile; what lies beyond is not watched."""
LONGEST_TEXT = 4_000

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})")
_STAGE_NAME = re.compile(r"\sAS\s+(\S{1,128})\s*$", re.IGNORECASE)


def observe_build(
    build: Build,
    *,
    build_id: str,
    repository: str,
    at: float,
    branch: str,
    is_default_branch: bool,
    commit: str | None = None,
    runner: str | None = None,
    is_bot: bool = False,
    size_bytes: float | None = None,
    positions: Collection[int] | None = None,
) -> ObservedBuild | None:
    """Return what the detector sees of a build, or of the steps of one of its images; None where nothing can be learnt.

    `at` is when it ended, in seconds since the epoch. A build that did not succeed, or that was not printed to its end,
    says nothing about what the cache would have served.
    """
    if build.outcome != Outcome.SUCCEEDED:
        return None
    steps = _observed_steps(build, positions)
    if not any(step.cached is not None for step in steps):
        return None
    texts = "\n".join(f"{step.stage}\x1f{step.text}" for step in steps)
    return ObservedBuild(
        id=build_id,
        repository=repository,
        at=at,
        branch=branch,
        is_default_branch=is_default_branch,
        commit=commit,
        dockerfile=hashlib.blake2b(texts.encode(errors="replace"), digest_size=8).hexdigest(),
        runner=runner,
        steps=steps,
        is_bot=is_bot,
        duration_seconds=build.duration_seconds,
        size_bytes=size_bytes,
    )


def _observed_steps(build: Build, positions: Collection[int] | None) -> tuple[ObservedStep, ...]:
    lineage = trace_lineage(build)
    members: dict[Chain | None, list[int]] = {}
    for position, step in enumerate(build.steps):
        if step.kind == StepKind.INSTRUCTION and (positions is None or position in positions):
            members.setdefault(lineage.chains[position], []).append(position)
    for own in members.values():
        own.sort(key=lambda position: (build.steps[position].index or 0, position))
    told = {chain: _name(build.steps[positions_here[0]]) for chain, positions_here in members.items()}
    unnamed = [chain for chain, name in told.items() if name is None]
    names = {chain: name or f"stage-{unnamed.index(chain)}" for chain, name in told.items()}
    stands_on = {
        chain: {lineage.chains[parent] for position in own for parent in lineage.parents[position]}
        & set(members) - {chain}
        for chain, own in members.items()
    }
    digests = {image.reference.partition("@")[0]: image.digest for image in build.base_images if image.digest}
    observed: list[ObservedStep] = []
    # Builders announce parallel stages in whatever order; the same Dockerfile must look the same each time.
    for chain in _in_order(sorted(members, key=lambda chain: names[chain]), stands_on):
        positions_here = members[chain]
        first = build.steps[positions_here[0]]
        if first.instruction != "FROM":
            # A stage that starts from another one prints no FROM; its chain of misses goes on here nevertheless.
            behind = [lineage.chains[parent] for parent in lineage.parents[positions_here[0]]]
            behind = [parent for parent in behind if parent in members and parent != chain]
            if behind:
                text = f"FROM {names[behind[0]]} AS {names[chain]}"
                observed.append(ObservedStep(names[chain], "FROM", text, None))
        observed += [_observed(build.steps[position], names[chain], digests) for position in positions_here]
    return tuple(observed[:MOST_STEPS])


def _name(first: Step) -> str | None:
    named = _STAGE_NAME.search(first.text) if first.instruction == "FROM" else None
    return first.stage or (named[1] if named else None)


def _in_order(chains: list[Chain | None], stands_on: Mapping[Chain | None, set[Chain | None]]) -> list[Chain | None]:
    """Put each chain behind those that it stands on, else leave them in order."""
    ordered: list[Chain | None] = []
    waiting = chains
    while waiting:
        ready = [chain for chain in waiting if not stands_on[chain] - set(ordered)] or waiting[:1]
        ordered += ready
        waiting = [chain for chain in waiting if chain not in ordered]
    return ordered


def _observed(step: Step, stage: str, digests: Mapping[str, str]) -> ObservedStep:
    keyword = (step.instruction or "").upper()
    text = normalize(step.text)[:LONGEST_TEXT]
    if keyword != "FROM":
        cached = None if keyword in NO_LAYER else step.cached
        return ObservedStep(stage, keyword, text, cached, step.duration_seconds)
    found = _DIGEST.search(text)
    words = _DIGEST.sub("", text).split()
    reference = next((word for word in words[1:] if not word.startswith("--")), "")
    digest = found[1] if found else digests.get(reference)
    return ObservedStep(stage, keyword, " ".join(words), step.cached, step.duration_seconds, digest)

"""What is known about two builds besides their logs: Dockerfiles, changed files, arguments, command lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachescope.cache_keys import CacheKeys


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One line of `git diff --name-status`: a status letter (A, M, D, T) and a path relative to the repository."""

    path: str
    status: str = "M"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about two builds besides their logs; None and missing keys mean "not at hand", never "empty".

    Mappings are keyed by target (bake, compose), with "" for a Dockerfile, context or argument that goes for all.
    """

    dockerfiles_before: Mapping[str, str] = field(default_factory=dict)
    dockerfiles_after: Mapping[str, str] = field(default_factory=dict)
    changed_files: tuple[ChangedFile, ...] | None = None
    """Everything that differs between the two commits; an empty tuple means that nothing does."""
    dockerignore_before: str | None = None
    dockerignore_after: str | None = None
    """Where only this one is known and `.dockerignore` is not among the changed files, it was the same before."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    """The folder of the build context, relative to the root of `changed_files`; "" or "." for the root itself."""
    command_before: tuple[str, ...] | None = None
    command_after: tuple[str, ...] | None = None
    arguments_before: Mapping[str, str] | None = None
    arguments_after: Mapping[str, str] | None = None
    """Build arguments from a build record or provenance; those of the command line are read from the command."""
    bake: str | None = None
    """The bake file (HCL or JSON) as it was in the later build."""
    cache_keys_before: CacheKeys | None = None
    cache_keys_after: CacheKeys | None = None
    """BuildKit's cache-debug output as it was after each of the two builds."""
    runner_before: str | None = None
    runner_after: str | None = None

"""Every exception of the project.

CachescopeError
├── UnreadableInputError    a file, archive or body that cannot be read as what it claims to be
│   └── TooLargeError       past a cap; says the cap
├── UnknownNameError        a plug-in, provider or setting that does not exist; lists the known ones
└── SettingsError           a setting that cannot work; says which and how to mend it
"""

from collections.abc import Iterable


class CachescopeError(Exception):
    """Something we can say in one sentence to the person in front of us."""


class UnreadableInputError(CachescopeError):
    """A file, archive or body cannot be read as what it claims to be."""


class TooLargeError(UnreadableInputError):
    """An input is larger than the cap that the sentence names."""


class UnknownNameError(CachescopeError):
    """A name that is none of the known ones."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f'Unknown {what} "{name}". Known: {", ".join(sorted(known))}.')


class SettingsError(CachescopeError):
    """A setting that cannot work."""

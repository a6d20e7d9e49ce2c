"""Every exception of the project.

CachescopeError
├── UnreadableInputError    a file, archive or body that cannot be read as what it claims to be
│   ├── TooLargeError       past a cap; says the cap
│   └── UnsupportedInputError   a content type or encoding that is not taken
├── UnknownNameError        a plug-in, provider or setting that does not exist; lists the known ones
├── SettingsError           a setting that cannot work; says which and how to mend it
├── InvalidValueError       a parameter or form field that cannot be taken; names it
├── NotFoundError           nothing there, or nothing that this viewer may know of
├── ConflictError           the request contradicts something that was accepted before
├── AccessError
│   ├── SignInRequiredError     nobody is signed in
│   ├── CredentialsRefusedError a token, password, link or signature that does not hold
│   ├── TooManyAttemptsError    somebody asks too often; says when to come back
│   └── ForbiddenError          somebody is signed in, but may not do this
├── UploadError             a server did not accept a log; says why and what to do
└── LeaseLostError          another worker took over this delivery; what this one read is thrown away
"""

from collections.abc import Iterable


class CachescopeError(Exception):
    """Something we can say in one sentence to the person in front of us."""


class UnreadableInputError(CachescopeError):
    """A file, archive or body cannot be read as what it claims to be."""


class TooLargeError(UnreadableInputError):
    """An input is larger than the cap that the sentence names."""


class UnsupportedInputError(UnreadableInputError):
    """A content type or encoding that is not taken."""


class UnknownNameError(CachescopeError):
    """A name that is none of the known ones."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f'Unknown {what} "{name}". Known: {", ".join(sorted(known))}.')


class SettingsError(CachescopeError):
    """A setting that cannot work."""


class InvalidValueError(CachescopeError):
    """A parameter or form field that cannot be taken."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


class NotFoundError(CachescopeError):
    """Nothing is there, or nothing that this viewer may know of: the two look alike."""


class ConflictError(CachescopeError):
    """The request contradicts something that was accepted before."""


class AccessError(CachescopeError):
    """Somebody may not do what they ask for."""


class SignInRequiredError(AccessError):
    """Nobody is signed in."""


class CredentialsRefusedError(AccessError):
    """A token, password, link or signature does not hold."""


class TooManyAttemptsError(AccessError):
    """Somebody asks too often, or too many ask at once."""

    def __init__(self, sentence: str, retry_after_seconds: int) -> None:
        super().__init__(sentence)
        self.retry_after_seconds = retry_after_seconds


class ForbiddenError(AccessError):
    """Somebody is signed in, but may not do this."""


class LeaseLostError(CachescopeError):
    """Another worker took over this delivery: what this one read is thrown away."""


class UploadError(CachescopeError):
    """A server did not accept a log, or could not be reached."""

"""What a channel is: a kind of place where a team is told, with its settings, its form of a message and its sending."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from cachescope.errors import CachescopeError
from integrations.http import Reach


class SendingError(CachescopeError):
    """A message did not arrive; says why, without anything secret of the address."""


class RefusedError(SendingError):
    """The receiver will never take this message: trying again would not help."""


class PostponedError(SendingError):
    """The receiver may take it later."""

    def __init__(self, sentence: str, after_seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.after_seconds = after_seconds
        """How long the receiver asked us to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a message says, before any channel gave it its form; nothing in it is escaped yet."""

    id: str
    """Of the delivery: the same at every try."""
    kind: str
    """opened, reopened, resolved, reminder, digest or test."""
    title: str
    """What happened, in one sentence."""
    lines: tuple[str, ...]
    """What it costs and what to do, one sentence each."""
    url: str
    link: str = "Open the alert"
    """What the link is called."""
    severity: str = "low"
    """high (an hour a day or more), medium (five minutes or more), low."""
    subject: str = ""
    """What the messages of one incident have in common: `incident-7`."""
    at: str = ""
    """ISO 8601, in UTC."""
    document: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""

    def as_document(self) -> dict[str, Any]:
        """Return the notice as JSON types."""
        return asdict(self) | {"lines": list(self.lines)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Notice":
        """Return the notice that `as_document` wrote."""
        return cls(**{**document, "lines": tuple(document["lines"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What sending needs besides the message: where we may connect to, the mail server, what was sent before."""

    reach: Reach = field(default_factory=Reach)
    mail: "MailServer | None" = None
    timestamp: float = 0.0
    """The present, in epoch seconds."""
    former: Mapping[str, Any] | None = None
    """The receipt of the first message about the same incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """The SMTP server of the installation."""

    host: str
    port: int = 587
    security: str = "starttls"
    """starttls, tls or none."""
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str = "cachescope@localhost"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receiver answered, and what a later message about the same incident needs."""

    answer: str
    reference: dict[str, Any] | None = None


class ChannelKind(Protocol):
    """One kind of channel; its module's name is its name everywhere and `CHANNEL` holds it."""

    title: str
    """What people call it."""
    Config: type[BaseModel]
    """Its settings; a field of type SecretStr is never shown again. The form is drawn from it."""

    def render(self, config: Any, notice: Notice) -> Any:
        """Give a notice the form in which it is sent: pure, JSON types, everything from outside escaped."""

    def send(self, config: Any, notice: Notice, context: Context) -> Receipt:
        """Send a notice; raises RefusedError for what will never arrive and PostponedError for what may."""

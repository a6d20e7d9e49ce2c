"""Structured logs: one line an event, with the ids of the request and the delivery that it belongs to.

Readable on a terminal, JSON everywhere else. Values that name a secret are never written, whoever hands them over.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from workers.settings import get_settings

_SECRET_WORDS = ("authorization", "cookie", "password", "secret", "signature", "token")
"""A field whose name holds one of these is masked; `token_id` and its like end in `_id` and pass."""


def mask_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Replace the values of fields that are named like secrets."""
    for name in event:
        if any(word in name.lower() for word in _SECRET_WORDS) and not name.endswith("_id"):
            event[name] = "[not logged]"
    return event


def drop_colours(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Leave out uvicorn's second version of its sentences, which is coloured."""
    event.pop("color_message", None)
    return event


def configure_logging(level: int = logging.INFO) -> None:
    """Send structlog's and the standard library's records through one formatter to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    style = get_settings().log_style
    # Plain tracebacks: the rich ones print local variables, and those may hold a secret.
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if style == "text" or (style == "auto" and sys.stderr.isatty())
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), drop_colours],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line a request is ours, without the query and without one-time links; uvicorn's would print both.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # They print whole addresses, and that of a webhook is its secret.
    for name in ("httpx", "httpcore", "apprise"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)  # one line a hint says nothing
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)

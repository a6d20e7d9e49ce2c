"""What an event said of one CI execution, as it is kept: JSON that outlives the body of the webhook."""

from datetime import datetime
from typing import Any

from integrations.ci.base import CIRun, PushedImage


def write_run(run: CIRun) -> dict[str, Any]:
    """Return what is kept of a run; a log that came with it is not."""
    return {
        "parameters": dict(run.parameters),
        "kind": run.kind,
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "log_reference": dict(run.log_reference),
        "images": [[image.name, image.tag, image.digest] for image in run.images],
    }


def read_run(kept: dict[str, Any]) -> CIRun:
    """Return the run that was kept."""
    return CIRun(
        parameters=kept["parameters"],
        kind=kept["kind"],
        started_at=_moment(kept["started_at"]),
        finished_at=_moment(kept["finished_at"]),
        log_reference=kept["log_reference"],
        images=tuple(PushedImage(name=name, tag=tag, digest=digest) for name, tag, digest in kept["images"]),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

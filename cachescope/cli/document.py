"""A reading as the JSON document of `analyze --json`; the contract is docs/analyze-json.md."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cachescope import metrics
from cachescope.model import Build, BuiltImage, CacheTransfer, LogReading, Step

SCHEMA = 1


def document(reading: LogReading, file: str, member: str | None = None) -> dict[str, Any]:
    """Return one log's document; `member` is its name inside an archive."""
    head: dict[str, Any] = {"schema": SCHEMA, "file": _clean(file)}
    if member is not None:
        head["member"] = _clean(member)
    return head | {
        "wrapper": reading.wrapper,
        "lines": reading.lines,
        "warnings": list(reading.warnings),
        "builds": [build_document(build) for build in reading.builds],
    }


def build_document(build: Build) -> dict[str, Any]:
    """Return one build as an element of `builds`; fields beyond the contract stand at its end."""
    return {
        "builder": build.builder,
        "format": build.format,
        "outcome": build.outcome,
        "error": build.error,
        "started_at": timestamp(build.started_at),
        "duration_seconds": _seconds(build.duration_seconds),
        "context_bytes": build.context_bytes,
        "images": [_image(image) for image in build.images],
        "cache_imports": [_transfer(transfer) for transfer in build.cache_imports],
        "cache_exports": [_transfer(transfer) for transfer in build.cache_exports],
        "steps": [step_document(step) for step in build.steps],
        "figures": figures_document(build),
        "base_images": [asdict(image) for image in build.base_images],
        "warnings": list(build.warnings),
        "line": build.line,
    }


def step_document(step: Step) -> dict[str, Any]:
    """Return one step."""
    return {
        "number": step.number,
        "kind": step.kind,
        "target": step.target,
        "stage": step.stage,
        "platform": step.platform,
        "index": step.index,
        "total": step.total,
        "instruction": step.instruction,
        "text": step.text,
        "status": step.status,
        "cached": step.cached,
        "cacheable": step.cacheable,
        "started_seconds": _seconds(step.started_seconds),
        "duration_seconds": _seconds(step.duration_seconds),
        "digest": step.digest,
        "error": step.error,
        "output_lines": step.output_lines,
        "line": step.line,
    }


def figures_document(build: Build) -> dict[str, Any]:
    """Return the figures of a build by name."""
    found = metrics.figures(build)
    return {
        "cacheable": found.cacheable,
        "hits": found.hits,
        "misses": found.misses,
        "unknown": found.unknown,
        "hit_rate": found.hit_rate,
        "seconds_spent": _seconds(found.seconds_spent),
    }


def timestamp(at: float | None) -> str | None:
    """Write seconds since the epoch as RFC 3339 with milliseconds; None for what no calendar holds."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return None


def _seconds(value: float | None) -> float | None:
    # Sums of decimal fractions show binary noise; no builder prints more than nanoseconds, none means less than micro.
    return None if value is None else round(value, 6)


def _image(image: BuiltImage) -> dict[str, Any]:
    return {"digest": image.digest, "id": image.id, "tags": list(image.tags), "target": image.target}


def _transfer(transfer: CacheTransfer) -> dict[str, Any]:
    return {"ref": transfer.ref, "succeeded": transfer.succeeded, "seconds": _seconds(transfer.seconds)}


def _clean(name: str) -> str:
    """Replace the bytes of a file name that are no UTF-8: JSON cannot carry them."""
    return os.fsencode(name).decode("utf-8", "replace")

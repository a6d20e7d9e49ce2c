"""Answers that several routes give."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from store.models.deliveries import Delivery


class BuildLink(BaseModel):
    """Where a build is."""

    id: int = Field(examples=[7])
    url: str = Field(examples=["https://cachescope.example/api/v1/builds/7"])
    page: str = Field(examples=["https://cachescope.example/builds/7"])


class DeliveryAnswer(BaseModel):
    """One upload or webhook and what became of it."""

    id: str = Field(examples=["019aa1b2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"])
    url: str = Field(examples=["https://cachescope.example/api/v1/deliveries/019aa1b2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"])
    page: str
    kind: Literal["upload", "hook", "demo"]
    state: Literal["new", "working", "done", "ignored", "failed"] = Field(
        description="new: waits for a worker; working: being read; done: its builds can be seen; "
        "ignored: carried no log; failed: see error."
    )
    error: str | None = Field(description="Why it failed or was ignored, or what is odd about it.")
    repository_id: int | None
    parameters: dict[str, Any] = Field(description="What the sender said about the log.")
    log_bytes: int | None = Field(description="Size of the log after decompression and redaction.")
    redactions: int = Field(description="How many secrets were taken out before anything was stored.")
    attempts: int
    received_at: datetime
    finished_at: datetime | None
    builds: list[BuildLink] = Field(description="Empty until the state is done, and where the log holds no build.")


def to_delivery(delivery: Delivery, build_ids: list[int], base_url: str) -> DeliveryAnswer:
    """Describe a delivery with links to its builds."""
    return DeliveryAnswer(
        id=delivery.id,
        url=f"{base_url}/api/v1/deliveries/{delivery.id}",
        page=f"{base_url}/deliveries/{delivery.id}",
        kind=delivery.kind,
        state=delivery.state,
        error=delivery.error,
        repository_id=delivery.repository_id,
        parameters={name: value for name, value in delivery.parameters.items() if name != "headers"},
        log_bytes=delivery.log_bytes,
        redactions=delivery.redactions,
        attempts=delivery.attempts,
        received_at=delivery.received_at,
        finished_at=delivery.finished_at,
        builds=[
            BuildLink(id=number, url=f"{base_url}/api/v1/builds/{number}", page=f"{base_url}/builds/{number}")
            for number in build_ids
        ],
    )

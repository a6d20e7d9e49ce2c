"""Where the queue is and how patient the workers are: `REDIS_URL` and every `CACHESCOPE_WORKER_…` setting."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cachescope.errors import SettingsError


class WorkerSettings(BaseSettings):
    """What a worker, a scheduler and whoever hands them work must agree on."""

    model_config = SettingsConfigDict(env_prefix="CACHESCOPE_WORKER_", extra="ignore")

    redis_url: Annotated[
        str | None, Field(validation_alias=AliasChoices("REDIS_URL", "CACHESCOPE_WORKER_REDIS_URL"))
    ] = None
    """A Redis or Valkey server; without one the queue is a folder of files."""

    public_url: Annotated[str, Field(validation_alias=AliasChoices("CACHESCOPE_WEB_PUBLIC_URL"))] = ""
    """Where people reach the service: messages lead there. The setting is that of the web process."""

    queue_folder: Path = Path(".cachescope/queue")
    """Where the hints lie when there is no Redis. The database is the truth: this folder may be deleted at any time."""

    poll_seconds: Annotated[float, Field(ge=0.005, le=5)] = 0.03
    """How often a worker looks into the queue folder."""

    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """How long a delivery stays with a worker that has stopped saying that it is alive."""

    networks: str = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7"
    """Networks besides the public internet that the owners of teams may let their sources reach; empty means none."""

    log_style: Literal["auto", "text", "json"] = "auto"
    """How every process writes its log: as text for people, as JSON for collectors, or text on a terminal only."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """How often a delivery is tried before it is shown as failed."""

    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """The pause after the first failed attempt; it doubles with each further one, up to an hour."""

    hint_grace_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """How long a delivery waits for the queue before anybody who is free takes it straight from the database."""

    hints_per_sweep: Annotated[int, Field(ge=1, le=1000)] = 8
    """How many wake-up calls one sweep of the scheduler sends at most, however much is overdue."""


@lru_cache(maxsize=1)
def get_settings() -> WorkerSettings:
    """Read the settings once; a value that cannot work is one sentence."""
    try:
        return WorkerSettings()
    except ValueError as error:
        raise SettingsError(f"The worker's settings cannot work: {error}") from error

"""Where the data lies and how it is locked: read from the environment under the prefix CACHESCOPE_."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cachescope.errors import SettingsError

PLACEHOLDERS = frozenset({"change-me", "changeme", "secret", "placeholder", "replace-me"})
SHORTEST_SECRET = 32


class StoreSettings(BaseSettings):
    """The settings of the database and of the raw logs."""

    model_config = SettingsConfigDict(env_prefix="CACHESCOPE_", extra="ignore", frozen=True, env_ignore_empty=True)

    data: Path = Field(default=Path(".cachescope"), description="Folder of everything that is kept on disk.")
    database_url: str = Field(
        default="",
        description="SQLAlchemy URL; empty means SQLite in the data folder. Example: postgresql://user:secret@host/cachescope",
    )
    database_pool_size: int = Field(default=5, ge=1, description="PostgreSQL connections kept open by each process.")
    logs_url: str = Field(
        default="",
        description="Where raw logs lie: a folder or s3://bucket/prefix; empty means logs in the data folder.",
    )
    logs_endpoint: str = Field(default="", description="Address of an S3-compatible server other than Amazon's.")
    logs_region: str = Field(default="us-east-1", description="Region of the bucket of logs_url.")
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="Encrypts stored secrets: 32 characters or more; several separated by commas, the newest first.",
    )

    @field_validator("logs_url", "database_url", "logs_endpoint", mode="after")
    @classmethod
    def without_spaces(cls, value: str) -> str:
        """Surrounding blanks are the mark of a pasted value, never part of an address."""
        return value.strip()

    @property
    def resolved_database_url(self) -> str:
        """The database's URL, with SQLite in the data folder where none is set."""
        return self.database_url or f"sqlite:///{self.data / 'cachescope.db'}"

    @property
    def resolved_logs_url(self) -> str:
        """The folder or bucket of the raw logs."""
        return self.logs_url or str(self.data / "logs")

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The secrets that lock stored secrets, the newest first.

        Raises SettingsError when there is none, or when one is short or a placeholder.
        """
        keys = tuple(key.strip() for key in self.secret_key.get_secret_value().split(",") if key.strip())
        if not keys:
            raise SettingsError(
                "CACHESCOPE_SECRET_KEY is not set. Set it to the output of "
                '`python3 -c "import secrets; print(secrets.token_urlsafe(32))"` and keep it.'
            )
        for key in keys:
            if key.casefold() in PLACEHOLDERS or len(key) < SHORTEST_SECRET:
                raise SettingsError(
                    f"CACHESCOPE_SECRET_KEY holds a key of {len(key)} characters that could be guessed. Use "
                    f"{SHORTEST_SECRET} random ones or more, such as `openssl rand -base64 32` prints."
                )
        return keys


@lru_cache(maxsize=1)
def get_settings() -> StoreSettings:
    """The settings of this process, read once."""
    return StoreSettings()

"""GitHub issues: one is opened with the alert, commented on and closed with its end.

https://docs.github.com/rest/issues/issues
"""

import re
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels._issues import body, mark
from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, Receipt

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")


class GitHubConfig(BaseModel):
    """A token that may write issues, and where."""

    repository: str = Field(title="Repository, such as acme/api")
    token: SecretStr = Field(title="Token (Issues: read and write)", min_length=1, max_length=500)
    api: str = Field(default="https://api.github.com", title="Address of the API")

    @field_validator("repository")
    @classmethod
    def named(cls, value: str) -> str:
        """An owner and a name."""
        if not _NAME.fullmatch(value.strip()) or ".." in value:
            raise ValueError("Write the repository as owner/name.")
        return value.strip()

    @field_validator("api")
    @classmethod
    def readable(cls, value: str) -> str:
        """An address that can be called."""
        return read_address(value).rstrip("/")


class GitHub:
    """Issues with a label of their own."""

    title = "GitHub issue"
    Config = GitHubConfig

    def render(self, config: GitHubConfig, notice: Notice) -> dict[str, Any]:
        """An issue; later messages become its comments with the same text."""
        return {"title": " ".join(notice.title.split())[:250], "body": body(notice)}

    def send(self, config: GitHubConfig, notice: Notice, context: Context) -> Receipt:
        """Open an issue, or comment on the one that was opened for this incident."""
        issues = f"{config.api}/repos/{quote(config.repository)}/issues"
        former = context.former.get("number") if context.former else None
        number = former or self._find(config, notice, context, issues)
        if number is None:
            answer = self._call(config, context, "POST", issues, self.render(config, notice))
            number = int(answer["number"])
        elif former:
            self._call(config, context, "POST", f"{issues}/{number}/comments", {"body": body(notice)})
        if notice.kind in {"resolved", "reopened", "test"}:
            state = "open" if notice.kind == "reopened" else "closed"
            self._call(config, context, "PATCH", f"{issues}/{number}", {"state": state})
        return Receipt(f"issue {number}", {"number": number})

    def _find(self, config: GitHubConfig, notice: Notice, context: Context, issues: str) -> int | None:
        """The issue that an earlier try of this message opened without our learning of it."""
        latest = self._call(config, context, "GET", f"{issues}?state=all&sort=created&per_page=20", None)
        for issue in latest if isinstance(latest, list) else []:
            if mark(notice) in str(issue.get("body")):
                return int(issue["number"])
        return None

    def _call(self, config: GitHubConfig, context: Context, method: str, url: str, json: Any) -> Any:
        headers = {
            "Authorization": f"Bearer {config.token.get_secret_value()}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        answer = post(context, url, method=method, json=json, headers=headers, cap_bytes=4 * 1024 * 1024)
        return orjson.loads(answer.content or b"null")


CHANNEL = GitHub()

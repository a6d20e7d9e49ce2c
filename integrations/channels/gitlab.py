"""GitLab issues: one is opened with the alert, commented on and closed with its end.

https://docs.gitlab.com/api/issues/ and https://docs.gitlab.com/api/notes/
"""

from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, Field, SecretStr, field_validator

from integrations.channels._issues import body, mark
from integrations.channels._posting import post, read_address
from integrations.channels.base import Context, Notice, Receipt


class GitLabConfig(BaseModel):
    """A token that may write issues, and where."""

    project: str = Field(title="Project, such as acme/api or its number", min_length=1, max_length=300)
    token: SecretStr = Field(title="Token (api)", min_length=1, max_length=500)
    url: str = Field(default="https://gitlab.com", title="Address of GitLab")

    @field_validator("url")
    @classmethod
    def readable(cls, value: str) -> str:
        """An address that can be called."""
        return read_address(value).rstrip("/")


class GitLab:
    """Issues of a project."""

    title = "GitLab issue"
    Config = GitLabConfig

    def render(self, config: GitLabConfig, notice: Notice) -> dict[str, Any]:
        """An issue; later messages become its comments with the same text."""
        return {"title": " ".join(notice.title.split())[:250], "description": body(notice)}

    def send(self, config: GitLabConfig, notice: Notice, context: Context) -> Receipt:
        """Open an issue, or comment on the one that was opened for this incident."""
        issues = f"{config.url}/api/v4/projects/{quote(config.project.strip(), safe='')}/issues"
        former = context.former.get("number") if context.former else None
        number = former or self._find(config, notice, context, issues)
        if number is None:
            number = int(self._call(config, context, "POST", issues, self.render(config, notice))["iid"])
        elif former:
            self._call(config, context, "POST", f"{issues}/{number}/notes", {"body": body(notice)})
        if notice.kind in {"resolved", "reopened", "test"}:
            change = "reopen" if notice.kind == "reopened" else "close"
            self._call(config, context, "PUT", f"{issues}/{number}", {"state_event": change})
        return Receipt(f"issue {number}", {"number": number})

    def _find(self, config: GitLabConfig, notice: Notice, context: Context, issues: str) -> int | None:
        """The issue that an earlier try of this message opened without our learning of it."""
        latest = self._call(config, context, "GET", f"{issues}?order_by=created_at&per_page=20", None)
        for issue in latest if isinstance(latest, list) else []:
            if mark(notice) in str(issue.get("description")):
                return int(issue["iid"])
        return None

    def _call(self, config: GitLabConfig, context: Context, method: str, url: str, json: Any) -> Any:
        headers = {"PRIVATE-TOKEN": config.token.get_secret_value()}
        answer = post(context, url, method=method, json=json, headers=headers, cap_bytes=4 * 1024 * 1024)
        return orjson.loads(answer.content or b"null")


CHANNEL = GitLab()

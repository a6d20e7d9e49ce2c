"""GitHub's sign-in, github.com's or a server's own: no id token, so its API says who the browser belongs to.

The numeric id is the subject: logins can be given to somebody else. Groups are organisations (`acme`) and teams
(`acme/platform`). See docs.github.com, "Authorizing OAuth apps".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from integrations.http import HttpClient, Reach
from integrations.identity.base import Attempt, IdentityError, Person, ask, ask_any

_MOST_PAGES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubProvider:
    """An OAuth app of GitHub."""

    client_id: str
    client_secret: str
    base_url: str = "https://github.com"
    api_url: str = "https://api.github.com"
    reads_groups: bool = True
    """Whether memberships matter: only then the scope `read:org` is asked for."""
    reach: Reach = field(default_factory=Reach)

    @property
    def scopes(self) -> Sequence[str]:
        """What people are asked to let us read."""
        return ("read:user", "user:email", "read:org") if self.reads_groups else ("read:user", "user:email")

    def authorization_url(self, attempt: Attempt) -> str:
        """Where the browser goes."""
        url: str = prepare_grant_uri(
            f"{self.base_url}/login/oauth/authorize",
            client_id=self.client_id,
            response_type="code",
            redirect_uri=attempt.redirect_uri,
            scope=" ".join(self.scopes),
            state=attempt.state,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    def identify(self, attempt: Attempt, code: str, answered_by: str | None) -> Person:
        """Trade the code for a token, and ask with it who its owner is; the token is kept nowhere."""
        if answered_by not in {None, self.base_url, f"{self.base_url}/login/oauth"}:
            raise IdentityError(f"The answer came from {str(answered_by)[:200]!r}, not from {self.base_url}.")
        fields = {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "code": code,
            "redirect_uri": attempt.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        with HttpClient(self.reach) as client:
            answer = ask(
                client,
                "POST",
                f"{self.base_url}/login/oauth/access_token",
                content=urlencode(fields).encode(),
                headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
            )
            token = answer.get("access_token")
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise IdentityError(f"GitHub gave no token: {str(answer.get('error'))[:100]!r}.")
            user = self._get(client, "/user", token)
            number, login = (user.get("id"), user.get("login")) if isinstance(user, dict) else (None, None)
            if not isinstance(number, int) or isinstance(number, bool) or not isinstance(login, str):
                raise IdentityError("GitHub does not say whom its token belongs to.")
            email, is_verified = _primary(self._get(client, "/user/emails", token))
            groups = self._groups(client, token) if self.reads_groups else frozenset()
        name = user.get("name")
        return Person(
            issuer=self.base_url,
            subject=str(number),
            email=email,
            is_email_verified=is_verified,
            name=name[:300] if isinstance(name, str) and name else login[:300],
            groups=groups,
        )

    def sign_out_url(self, id_token: str | None, back: str) -> str | None:
        """GitHub offers no way to sign out from elsewhere."""
        return None

    def _groups(self, client: HttpClient, token: str) -> frozenset[str]:
        found: set[str] = set()
        for organisation in self._pages(client, "/user/orgs", token):
            if isinstance(login := organisation.get("login"), str):
                found.add(login)
        for team in self._pages(client, "/user/teams", token):
            owner, slug = team.get("organization"), team.get("slug")
            if isinstance(owner, dict) and isinstance(login := owner.get("login"), str) and isinstance(slug, str):
                found |= {login, f"{login}/{slug}"}
        return frozenset(found)

    def _pages(self, client: HttpClient, path: str, token: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in range(1, _MOST_PAGES + 1):
            rows = self._get(client, f"{path}?per_page=100&page={page}", token)
            rows = rows if isinstance(rows, list) else []
            found += [row for row in rows if isinstance(row, dict)]
            if len(rows) < 100:
                break
        return found

    def _get(self, client: HttpClient, path: str, token: str) -> Any:
        return ask_any(
            client,
            "GET",
            f"{self.api_url}{path}",
            credentials={"authorization": f"Bearer {token}"},
            headers={"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"},
        )


def _primary(rows: Any) -> tuple[str, bool]:
    """Return the main address, and whether GitHub has seen that it is theirs."""
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("primary") is True and isinstance(email := row.get("email"), str):
            return email[:300], row.get("verified") is True
    return "", False

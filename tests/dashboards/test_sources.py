"""Connecting a CI system by its page: address, secret, steps, the first webhook arriving, what came and what failed."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboards.guides import GUIDES, find_guide
from service.actions.sources import list_providers
from store.database import transaction
from store.models import Source
from store.queries import sources
from tests.dashboards.conftest import Site
from workers.tasks.ingest import ingest

START = "/teams/acme/sources"


def connect(site: Site, provider: str = "github", **fields: str) -> tuple[str, str, str]:
    """Follow the first step; returns the page of the source, the address for webhooks and the secret."""
    given = {"provider": provider, "name": "Forge"} | fields
    if GUIDES[provider].server_needed:
        given.setdefault("base_url", "https://ci.example.org")
    made = site.post(f"{START}/new", page=f"{START}/new?provider={provider}", **given)
    assert made.status_code == 200, made.text
    address = re.search(r'id="address-text"[^>]*>([^<]+)<', made.text)
    secret = re.search(r'id="secret-text"[^>]*>([^<]+)<', made.text)
    assert address
    assert secret
    return f"{START}/{address[1].rpartition('/')[2]}", address[1], secret[1]


def ping(address: str, secret: str, event: Any = None, kind: str = "ping", identity: str = "1") -> httpx.Response:
    body = json.dumps(event or {"zen": "Speak like a human.", "hook_id": 1}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": kind, "x-github-delivery": identity, "x-hub-signature-256": f"sha256={signature}"}
    return httpx.post(address, content=body, headers=headers | {"content-type": "application/json"})


def state(site: Site, page: str, since: str = "") -> dict[str, str]:
    return site.client.get(f"{page}/state{since}").json()


def test_every_provider_has_a_guide_and_every_guide_a_provider() -> None:
    assert sorted(GUIDES) == list_providers()


def test_a_provider_without_a_guide_of_its_own_gets_what_goes_for_all() -> None:
    guide = find_guide("a_new_one")
    assert guide.label == "A new one"
    assert "webhook" in guide.steps[0]


@pytest.mark.parametrize("provider", sorted(GUIDES))
def test_the_page_of_a_new_source_has_the_address_the_secret_and_the_steps(site: Site, provider: str) -> None:
    page, address, secret = connect(site, provider)
    assert "/hooks/" in address
    assert len(secret) >= 32
    text = site.text(page)
    assert secret not in text, "it is shown once"
    assert text.count("<li>") >= len(GUIDES[provider].steps)
    assert "follow these steps" in text


def test_the_first_webhook_is_waited_for_and_seen_to_arrive(site: Site) -> None:
    page, address, secret = connect(site)
    wait = re.search(r'data-wait="([^"]+)"', site.text(page))
    assert wait
    waiting = wait[1].partition("/state")[2].replace("&amp;", "&")
    assert "Waiting for the first webhook" in state(site, page, waiting)["text"]
    assert ping(address, secret).status_code == 202
    assert state(site, page, waiting) == {"url": page}
    text = site.text(page)
    assert "1 webhook came" in text
    assert "the address was set up; nothing was built" in text


def test_a_webhook_with_a_wrong_secret_is_seen_as_refused(site: Site) -> None:
    page, address, _ = connect(site)
    assert ping(address, "wrong").status_code == 401
    assert "was refused" in state(site, page)["text"]
    assert "1 request refused so far" in site.text(page)


def test_the_docs_that_connect_github_name_what_the_pages_show(site: Site) -> None:
    docs = " ".join((Path(__file__).parents[2] / "docs/connect-github.md").read_text().split())
    page, address, secret = connect(site)
    shown = [site.text("/teams/acme/settings"), site.text(START), site.text(f"{START}/new?provider=github")]
    shown += [site.text(page), state(site, page)["text"]]
    ping(address, "wrong")
    shown += [state(site, page)["text"], site.text(page)]
    ping(address, secret)
    ingest()
    shown.append(site.text(page))
    shown.append(site.text(re.search(rf'href="({page}/requests/[^"]+)"', shown[-1])[1]))
    # A second refusal within seconds would only be counted.
    other, unsigned, _ = connect(site)
    httpx.post(unsigned, content=b"{}", headers={"content-type": "application/json"})
    shown.append(site.text(other))
    everything = "\n".join(shown)
    for words in (
        "Connect a CI system step by step, and see how each fares",
        "as the webhook says",
        "Server",
        "Make the address and the secret",
        "Latest webhooks",
        "ignored",
        "A webhook came and was refused",
        "New secret",
        "To read logs",
        "To write results",
        "Keep it",
        "Token",
        "App id",
        "Private key",
        "What became of it",
        "No webhook has come yet",
        "The signature in X-Hub-Signature-256 fits no secret of this source",
        "The header X-Hub-Signature-256 is missing or empty",
        "Give a token to read logs with",
        "Send again",
    ):
        assert words in docs, f"{words!r} is not in the docs"
        assert words in everything, f"{words!r} is on no page"


def test_a_source_without_a_token_says_what_is_missing(site: Site) -> None:
    page, _, _ = connect(site)
    assert "Give a token to read logs with" in site.text(page)
    kept = site.post(f"{page}/credentials/read", page=page, token="github_pat_" + "a" * 30)
    assert kept.headers["location"] == f"{page}?done=read"
    text = site.text(page, done="read")
    assert "Logs are fetched with it from now on" in text
    assert "Give a token" not in text
    assert "github_pat_" not in text


def test_a_token_goes_nowhere_but_to_the_server_it_was_given_for(site: Site) -> None:
    page, _, _ = connect(site, "gitea")
    site.post(f"{page}/credentials/read", page=page, token="a" * 40)
    site.post(f"{page}/address", page=page, base_url="https://elsewhere.example.org", networks="10.0.0.0/8")
    with transaction() as session:
        source = session.get_one(Source, page.rpartition("/")[2])
        assert (source.base_url, source.networks) == ("https://elsewhere.example.org", "10.0.0.0/8")
        assert sources.load_credentials(source) == {}


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("credentials/read", {"token": "two\nlines"}, "copy it again"),
        ("credentials/read", {"app_id": "7", "private_key": "no key"}, "no private key"),
        ("credentials/read", {"app_id": "x y", "private_key": "k"}, "both its id and its private key"),
        ("credentials/other", {"token": "t"}, "Unknown purpose"),
        ("address", {"base_url": "nonsense"}, "no address of a server"),
        ("address", {"networks": "everything"}, "write networks as"),
        ("own-secret", {"secret": "short"}, "16 to 500"),
    ],
)
def test_what_cannot_be_kept_is_said(site: Site, path: str, fields: dict[str, str], words: str) -> None:
    page, _, _ = connect(site)
    answer = site.post(f"{page}/{path}", page=page, **fields)
    assert answer.status_code == 422
    assert words in answer.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": "kanico"}, "Unknown provider"),
        ({"provider": "buildbot", "base_url": ""}, "Say where this CI system is"),
        ({"provider": "github", "name": " "}, "1 to 100"),
        ({"provider": "gitlab", "scheme": "none"}, "Unknown scheme"),
        ({"provider": "github", "base_url": "ftp://x"}, "no address of a server"),
        ({"provider": "github", "repository_id": "x"}, "no number"),
    ],
)
def test_a_source_that_cannot_be_made_says_why(site: Site, fields: dict[str, str], words: str) -> None:
    answer = site.post(f"{START}/new", **({"name": "Forge"} | fields))
    assert answer.status_code == 422
    assert words in answer.text.replace("&#39;", "'")


def test_a_new_secret_works_beside_the_former_one(site: Site) -> None:
    page, address, former = connect(site)
    changed = site.post(f"{page}/secret", page=page)
    secret = re.search(r'id="secret-text"[^>]*>([^<]+)<', changed.text)
    assert secret
    assert secret[1] != former
    assert site.post(f"{page}/own-secret", page=page, secret="s" * 20).status_code == 303
    for number, one in enumerate((former, secret[1], "s" * 20)):
        assert ping(address, one, identity=str(number)).status_code == 202
    assert site.post(f"{page}/off", page=page).headers["location"] == f"{page}?done=off"
    assert ping(address, former, identity="9").status_code == 401
    assert "switched off" in site.text(page)


def test_a_webhook_is_shown_with_its_headers_and_its_body_without_secrets(site: Site) -> None:
    page, address, secret = connect(site)
    event = {"zen": "<script>alert(1)</script>", "hook_id": 1, "note": "ghp_" + "a1b2c3d4e5" * 3 + "a1b2c3"}
    ping(address, secret, event)
    request = re.search(rf'href="({page}/requests/[^"]+)"', site.text(page))
    assert request
    text = site.text(request[1])
    assert "x-github-event" in text
    assert "x-hub-signature" not in text
    assert secret not in text
    assert "ghp_a1b2" not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    again = site.post(f"{request[1]}/again", page=request[1])
    assert again.headers["location"] == f"{page}?done=again"
    ingest()
    assert "ignored" in site.text(request[1])
    assert site.get(f"{page}/requests/nothing").status_code == 404


def test_the_list_says_how_each_system_fares(site: Site) -> None:
    assert "No CI system is connected" in site.text(START)
    page, address, secret = connect(site)
    ping(address, secret)
    text = site.text(START)
    assert "1 need a look" in text
    assert f'href="{page}"' in text
    assert site.text(f"{START}/new", provider="nonsense").count("GitHub")


def test_nobody_sees_the_sources_of_another_team(site: Site) -> None:
    page, _, _ = connect(site)
    from tests.factories import make_team

    with transaction() as session:
        other = make_team(session, "other")
        session.get_one(Source, page.rpartition("/")[2]).team_id = other.id
    assert site.get(page).status_code == 404
    assert site.get(page.replace("acme", "other")).status_code == 404

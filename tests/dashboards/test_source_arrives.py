"""Connecting GitHub in a real browser by what the page says: the first webhook arrives while one looks."""

import hashlib
import hmac

import httpx
import pytest
from playwright.sync_api import Browser, expect

from service.auth.sessions import SESSION_COOKIE
from tests.dashboards.conftest import COOKIE, Site

pytestmark = pytest.mark.browser


def test_the_first_webhook_arrives_while_one_looks(browser: Browser, site: Site) -> None:
    home = str(site.client.base_url)
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    context.add_cookies([{"name": SESSION_COOKIE, "value": COOKIE, "url": home}])
    page = context.new_page()
    page.goto(f"{home}/teams/acme/settings")
    page.get_by_role("link", name="Connect a CI system step by step").click()
    page.get_by_role("link", name="GitHub", exact=True).click()
    page.get_by_role("button", name="Make the address and the secret").click()
    address = page.locator("#address-text").inner_text().strip()
    secret = page.locator("#secret-text").inner_text().strip()
    expect(page.get_by_text("Waiting for the first webhook")).to_be_visible()
    body = b'{"zen": "Speak like a human.", "hook_id": 1}'
    headers = {
        "content-type": "application/json",
        "x-github-event": "ping",
        "x-github-delivery": "1",
        "x-hub-signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }
    assert httpx.post(address, content=body, headers=headers).status_code == 202
    expect(page.get_by_text("1 webhook came in the last seven days")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("cell", name="ping", exact=True)).to_be_visible()
    expect(page.get_by_text("Give a token to read logs with")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    context.close()

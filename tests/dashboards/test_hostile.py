"""Hostile names and logs in a real browser: whatever somebody calls a thing, pages show it and run none of it.

The Content-Security-Policy is switched off in the browser, so that escaping is tested alone; another test shows that
pages without escaping fail here.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from asgi import app
from dashboards import rendering
from service.auth.sessions import SESSION_COOKIE
from tests import serving
from tests.test_route_walk import all_routes
from tests.worlds import World, make_world

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = "</script></title></textarea><script>window.hit='script'</script>"
IMAGE = "<img src=nowhere onerror=\"window.hit='image';alert(1)\"><svg onload=\"window.hit='svg'\">"
ATTRIBUTE = "\" autofocus onfocus=\"window.hit='attribute'\" ' onmouseover='window.hit=2' `x"
ADDRESS = "javascript:window.hit='address'//https://example.org/"
STYLE = "</style><style>body{display:none}</style>{{7*7}}${7*7}&lt;script&gt;<!--"
PAYLOADS = (SCRIPT + ATTRIBUTE, IMAGE, ATTRIBUTE + IMAGE, STYLE + SCRIPT, ADDRESS + SCRIPT)
LOG = f"""#0 building with "default" instance using docker driver

#1 [internal] load build definition from {SCRIPT}
#1 transferring dockerfile: 200B done
#1 DONE 0.0s

#2 [{IMAGE} 1/3] FROM docker.io/library/{ATTRIBUTE}
#2 CACHED

#3 [build 2/3] RUN echo {SCRIPT}{IMAGE}
#3 0.100 {SCRIPT}
#3 0.200 {IMAGE} {ADDRESS} https://example.org/"onclick="window.hit=3
#3 DONE 1.5s

#4 [build 3/3] RUN {ATTRIBUTE}
#4 0.100 \x1b[31m{IMAGE}\x1b[0m \x1b]8;;javascript:window.hit=4\x1b\\click\x1b]8;;\x1b\\
#4 ERROR: process "/bin/sh -c {IMAGE}" did not complete successfully: exit code: 1
------
 > [build 3/3] RUN {ATTRIBUTE}:
{SCRIPT}
------
ERROR: failed to solve: process "/bin/sh -c {IMAGE}" did not complete successfully: exit code: 1
""".encode()

LOOK = """() => [
  ...(window.hit ? ["ran: " + window.hit] : []),
  ...[...document.querySelectorAll("*")].flatMap((element) => [...element.attributes].flatMap((attribute) => {
    const value = attribute.value.replace(/[\\u0000-\\u0020]/g, "").toLowerCase();
    const leads = ["href", "xlink:href", "src", "action", "formaction", "srcdoc", "data"].includes(attribute.name);
    return attribute.name.startsWith("on") || (leads && /^(javascript|vbscript|data:text)/.test(value))
      ? [`${element.tagName} ${attribute.name}=${attribute.value.slice(0, 60)}`] : [];
  })),
  ...[...document.querySelectorAll("script:not([src]):not([type='application/json'])")]
    .map((it) => "a script: " + it.text),
  ...[...document.querySelectorAll("img:not([src*='/badges/']), iframe, object, embed, main style")]
    .map((it) => "an element " + it.tagName),
  ...(getComputedStyle(document.body).display === "none" ? ["a style counted"] : []),
]"""
SETTLE = """async () => {
  for (let y = 0; y < document.body.scrollHeight; y += 800) {
    scrollTo(0, y);
    await new Promise((done) => setTimeout(done, 20));
  }
  document.querySelectorAll("details").forEach((it) => { it.open = true; });
  document.querySelectorAll("input, a, button, summary").forEach((it) => it.focus({preventScroll: true}));
}"""
DRAWN = "() => [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"
BY_SECRET = re.compile(r"/(setup|invitations|reset|account/email|badges)/\{|/sign-in/with/|/assets/")
NO_PAGE = re.compile(r"/(state|metrics|healthz|readyz)$")


def words(kind: str) -> str:
    """A name that wants to be more than a name; the same for a kind each time, as names are."""
    if kind == "url":
        return ADDRESS
    payload = PAYLOADS[sum(map(ord, kind)) % len(PAYLOADS)]
    text = payload if kind in {"reference", "tag", "path"} else f"{kind} {payload}"
    return text[:100] if kind in {"token", "source"} else text


@pytest.fixture
def world(home: Any) -> World:
    return make_world(words, LOG)


@pytest.fixture
def site(world: World) -> Iterator[str]:
    with serving.serve(app) as url:
        yield url


def pages(world: World, site: str) -> Iterator[str]:
    """The address of every page that opens, with what exists here; pages of figures too."""
    with httpx.Client(base_url=site, cookies=world.credentials["owner"].cookies, timeout=60) as client:
        for method, path in sorted(set(all_routes(app.routes))):
            if method != "GET" or path.startswith("/api/") or BY_SECRET.search(path) or NO_PAGE.search(path):
                continue
            ids = {name: values[0] for name, values in world.ids.items() if values} | {"name": "heatmap"}
            address = path.format(**ids) + (f"?repository={ids['repository_id']}" if path.startswith("/charts") else "")
            answer = client.get(address, headers={"accept": "text/html"}, follow_redirects=True)
            if answer.status_code == 200 and "text/html" in answer.headers["content-type"]:
                yield address
            else:
                assert answer.status_code in {200, 403, 404}, (address, answer.status_code)


def visit(browser: Browser, world: World, site: str, addresses: list[str]) -> dict[str, list[str]]:
    """Open pages one after the other and return what went wrong on each."""
    context = browser.new_context(bypass_csp=True, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)
    cookie = world.credentials["owner"].cookies[SESSION_COOKIE]
    context.add_cookies([{"name": SESSION_COOKIE, "value": cookie, "url": site}])
    found: dict[str, list[str]] = {}
    try:
        for address in addresses:
            page = context.new_page()
            troubles = found.setdefault(address, [])
            page.on("dialog", lambda it, troubles=troubles: (troubles.append(f"dialog: {it.message}"), it.dismiss()))
            page.on("pageerror", lambda error, troubles=troubles: troubles.append(f"exception: {error}"))
            page.on(
                "console",
                lambda it, troubles=troubles: is_trouble(it) and troubles.append(f"console: {it.text}"),
            )
            page.goto(site + address)
            page.evaluate(SETTLE)
            if not troubles:
                page.wait_for_function(DRAWN)
            troubles += page.evaluate(LOOK)
            page.close()
    finally:
        context.close()
    return {address: troubles for address, troubles in found.items() if troubles}


def is_trouble(message: Any) -> bool:
    """Whether the console says that something went wrong; fragments, opened alone, have no icon."""
    return message.type == "error" and not message.location["url"].endswith("/favicon.ico")


def test_no_page_runs_what_somebody_called_a_thing(world: World, site: str, browser: Browser) -> None:
    addresses = list(pages(world, site))
    assert len(addresses) >= 30
    seen = "".join(httpx.get(site + it, cookies=world.credentials["owner"].cookies).text for it in addresses)
    for kind in ("team", "repository", "branch", "image", "instruction", "job", "runner", "actor", "token", "channel"):
        assert f"{kind} " in seen
    assert "&lt;script&gt;window.hit" in seen
    assert visit(browser, world, site, addresses) == {}


def test_pages_that_do_not_escape_are_caught(
    world: World, site: str, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "select_autoescape", lambda **_: False)
    rendering.environment.cache_clear()
    try:
        build = world.ids["build_id"][0]
        addresses = ["/teams/acme", "/teams/acme/settings", f"/builds/{build}", f"/builds/{build}/log"]
        found = visit(browser, world, site, addresses)
        assert set(found) == set(addresses)
        assert any("ran: " in trouble for troubles in found.values() for trouble in troubles)
    finally:
        rendering.environment.cache_clear()

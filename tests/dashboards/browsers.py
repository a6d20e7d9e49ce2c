"""A real browser for tests: one Chromium for all, tabs that note what should not happen, and the checker axe."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from service.auth.sessions import SESSION_COOKIE
from tests import servers

COOKIE = "the-cookie-of-a-reader"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="

OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => {
    for (let above = element.parentElement; above; above = above.parentElement)
      if (getComputedStyle(above).overflowX !== "visible") return true;
    return false;
  };
  return [...document.querySelectorAll("main *, header *")]
    .filter((element) => element.getBoundingClientRect().right > width + 1 && !scrolls(element))
    .filter((element) => getComputedStyle(element).position !== "absolute")
    .map((element) => element.outerHTML.slice(0, 120));
}"""
SCROLL = """async () => {
  for (let y = 0; y < document.body.scrollHeight; y += 500) {
    scrollTo(0, y);
    await new Promise((done) => setTimeout(done, 30));
  }
  scrollTo(0, 0);
}"""
DRAWN = "() => [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, where this machine has one."""
    path = os.environ.get("CACHESCOPE_TEST_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        servers.miss("No Chromium on PATH: install it or set CACHESCOPE_TEST_CHROMIUM to where it is.")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker, fetched once by npm and checked against its hash."""
    npm = shutil.which("npm")
    if npm is None:
        servers.miss("No npm on PATH, which fetches the accessibility checker.")
    folder = tmp_path_factory.mktemp("axe")
    fetched = subprocess.run([npm, "pack", AXE, "--silent"], cwd=folder, capture_output=True, check=False, timeout=120)
    packed = next(folder.glob("*.tgz"), None)
    if fetched.returncode or packed is None:
        servers.miss(f"npm could not fetch {AXE}, the accessibility checker.")
    assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(packed) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


class Tab:
    """A tab that notes whatever should not happen in it."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.address = address
        self.troubles: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"exception: {error}"))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.troubles.append(f"another host: {url}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")

    def open(self, path: str) -> None:
        """Open a page and let everything on it be drawn."""
        self.page.goto(self.address + path)
        self.settle()

    def settle(self) -> None:
        """Wait until all figures of the page are drawn."""
        self.page.wait_for_load_state()
        self.page.evaluate(SCROLL)
        self.page.wait_for_function(DRAWN)

    def root(self) -> Any:
        """The html element."""
        return self.page.locator("html").element_handle()

    def check(self) -> None:
        """Fail when anything is wider than the window, or has gone wrong since the tab was opened."""
        assert self.page.evaluate(OVERFLOW) == []
        assert (
            self.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        )
        assert self.troubles == []


@pytest.fixture
def open_tab(browser: Browser, visitor: httpx.Client) -> Iterator[Callable[..., Tab]]:
    """Open a window of some width and theme, signed in or not."""
    contexts: list[BrowserContext] = []
    address = str(visitor.base_url).rstrip("/")

    def run(*, width: int = 1280, theme: str = "light", signed_in: bool = True, **options: Any) -> Tab:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        contexts.append(context)
        if signed_in:
            context.add_cookies([{"name": SESSION_COOKIE, "value": COOKIE, "url": address}])
        context.set_default_timeout(120_000)
        return Tab(context, address)

    yield run
    for context in contexts:
        context.close()

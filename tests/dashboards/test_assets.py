"""The files that pages load, and the start of the server that must not wait for any of them."""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from backports import zstd

from dashboards import assets, theme
from store.settings import get_settings

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["page.css", "page.js", "icon.svg", "plotly.js"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_kept_for_ever_and_comes_in_every_encoding(visitor: httpx.Client, name: str) -> None:
    found = assets.asset(name)
    for encoding in ("zstd", "gzip", "identity"):
        with visitor.stream("GET", found.path, headers={"Accept-Encoding": encoding}) as answer:
            body = b"".join(answer.iter_raw())
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == found.media_type
        assert answer.headers.get("content-encoding", "identity") == encoding
        unpacked = {"zstd": zstd.decompress, "gzip": gzip.decompress, "identity": bytes}[encoding](body)
        assert unpacked == found.content


@pytest.mark.parametrize("name", ["page.0000000000000000.css", "page.css", "../theme.py", "nothing.js", "page.", ""])
def test_a_file_of_another_version_or_none_is_not_there(visitor: httpx.Client, name: str) -> None:
    assert visitor.get(assets.PREFIX + name).status_code == 404


def test_an_encoding_that_is_refused_is_not_used() -> None:
    found = assets.asset("page.css")
    assert assets.compressed(found, "zstd;q=0, gzip;q=0.5")[1] == "gzip"
    assert assets.compressed(found, "br")[1] is None
    assert assets.compressed(found, "")[1] is None


def test_plotly_is_compressed_once_into_the_cache_folder(home: Path) -> None:
    plotly = assets.asset("plotly.js")
    assets._encoded.cache_clear()
    assets.warm_up().join()
    folder = get_settings().data / "cache"
    kept = sorted(folder.iterdir())
    assert [path.name for path in kept] == [f"{plotly.name}.gz", f"{plotly.name}.zst"]
    assert max(path.stat().st_size for path in kept) < len(plotly.content) / 3
    assets._encoded.cache_clear()  # what the next start of the server does
    kept[0].write_bytes(b"as it lies there")
    assert assets.compressed(plotly, "gzip") == (b"as it lies there", "gzip")
    assets._encoded.cache_clear()


def test_a_cache_folder_that_cannot_be_written_costs_only_time(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CACHESCOPE_DATA", str(tmp_path / "file"))
    get_settings.cache_clear()
    assets._encoded.cache_clear()
    content, encoding = assets.compressed(assets.asset("icon.svg"), "gzip")
    assert encoding == "gzip"
    assert gzip.decompress(content) == assets.asset("icon.svg").content


def test_the_stylesheet_holds_the_tokens_and_loads_nothing_else() -> None:
    css = assets.asset("page.css").content.decode()
    for name, value in theme.TOKENS["dark"].items():
        assert f"--{name}:{value}" in css
    assert "url(" not in css.replace("url(#", "")
    assert "@import" not in css
    used = set(re.findall(r"var\(--([a-z-]+)\)", css))
    assert used <= set(theme.TOKENS["light"])


def test_the_module_uses_only_what_it_brings() -> None:
    script = assets.asset("page.js").content.decode()
    assert "import " not in re.sub(r"//.*", "", script)
    assert "http" not in re.sub(r"https? ?(closes|the)|Without https", "", re.sub(r"//.*", "", script))
    assert "eval(" not in script


def test_plotly_is_told_not_to_add_styles() -> None:
    ids = assets.guarded_styles()
    assert ids[0] == "plotly.js-style-global"
    script = assets.asset("plotly.js").content
    assert b"no-inline-styles" in script
    # As many elements are made with an id of their own as are guarded, the global one apart.
    made = re.findall(rb'createElement\("style"\);[a-z]+\.id="([0-9a-f]{64})"', script)
    assert {name.decode() for name in made} <= set(ids)


def test_the_web_application_starts_without_pandas_and_plotly() -> None:
    code = "import asgi, sys; print(sorted({'pandas', 'numpy', 'plotly', 'plotly.express'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"

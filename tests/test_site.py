"""The documentation as a site: it builds without a warning, has every page, every public name, every command and every key, and asks
no other machine for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest
import typer
from mkdocs.config import load_config
from playwright.sync_api import Page

import results
import search
from search.cli import app
from spaces.study import Study
from spaces.system import SYSTEMS, system
from tests.pages import PATIENCE, chromium

ROOT = Path(__file__).parent.parent
PHONE, DESK = 360, 1280


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built as `make docs` does, where a warning is an error."""
    place: Path = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", place],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def text(page: Path) -> str:
    return page.read_text()


def named_in(tree: object) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for branch in tree.values():
            yield from named_in(branch)
    elif isinstance(tree, list):
        for branch in tree:
            yield from named_in(branch)


def test_every_page_is_in_the_navigation_once():
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    outside = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md"]
    assert sorted(named_in(load_config(str(ROOT / "mkdocs.yml")).nav)) == sorted([*pages, *outside])


def test_links_lead_to_pages_of_the_site(site):
    """Those that code hosts show as files, too; a named test is found at its line."""
    page = text(site / "features.html")
    assert 'href="source/tests/spaces/test_loading.py.html#__codelineno-0-' in page
    for name in site.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#?]+)', text(name)):
            if not target.startswith(
                ("http", "data:", "/")
            ):  # 404.html is shown at any place, and has paths from the root
                assert (name.parent / target).resolve().exists(), f"{name.relative_to(site)}: {target}"


def test_no_page_takes_anything_from_elsewhere(site):
    """Links lead to other sites; what a browser fetches by itself does not."""
    for name in site.rglob("*.html"):
        page = text(name)
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]* src="([^"]+)', page)
        fetched += re.findall(r'<link[^>]* href="([^"]+)', page)
        assert not [one for one in fetched if one.startswith(("http", "//"))], name.relative_to(site)


def test_the_reference_has_every_public_name(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    public = [f"{module.__name__}.{name}" for module in (results, search) for name in module.__all__]
    assert {*public} <= known
    shown = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert {*re.findall(r"^::: (\S+)", shown, re.MULTILINE)} <= known


def test_the_reference_has_every_command_and_every_key(site):
    commands = text(site / "reference" / "command-line.html")
    for command in typer.main.get_group(app).commands:
        assert f'id="psf-search-{command}"' in commands
    keys = text(site / "reference" / "space-files.html")
    models = [Study, *(part for name in SYSTEMS for part in (system(name).trial, system(name).data))]
    wanted = {key for model in models for key in model.model_fields} - {"lens_facts"}  # which a run writes
    assert wanted <= {*re.findall(r"<td><code>(\w+)</code></td>", keys)}


@pytest.mark.slow
def test_pages_are_silent_and_as_wide_as_the_window_in_either_scheme(site, address):
    """On a phone and on a desk, dark and light, as the system asks for."""
    pages = [page.relative_to(site).as_posix() for page in site.rglob("*.html") if "source" not in page.parts]
    with chromium() as browser:
        for width, dark in ((PHONE, True), (DESK, False)):
            colours: Literal["dark", "light"] = "dark" if dark else "light"
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
            heard = listen(page, address)
            for name in pages:
                page.goto(f"{address}/{name}", timeout=PATIENCE)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, name
                scheme = page.locator("body").get_attribute("data-md-color-scheme")
                assert scheme == ("slate" if dark else "default"), name
            assert not heard
            page.close()


@pytest.mark.slow
def test_a_search_finds_keys_and_functions(address):
    with chromium() as browser:
        page = browser.new_page(viewport={"width": DESK, "height": 900})
        heard = listen(page, address)
        page.goto(f"{address}/index.html", timeout=PATIENCE)
        for sought, found in (("trials_dataframe", "reference/results.html"), ("held_out_rays", "space-files.html")):
            query = page.locator("[data-md-component=search-query]")
            query.fill("")
            query.press_sequentially(sought)  # it is asked at each key
            page.wait_for_selector(f".md-search-result__link[href*='{found}']", timeout=PATIENCE)
        assert not heard
        page.goto(f"{address}/404.html", timeout=PATIENCE)
        assert page.locator("h1").inner_text().startswith("404")


def listen(page: Page, address: str) -> list[str]:
    """What a page says on the console, and asks others for."""
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith((address, "data:")) else heard.append(request.url)
    )
    return heard

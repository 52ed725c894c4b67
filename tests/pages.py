"""Sections of a report in Debian's Chromium, in a page with the report's content security policy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from results.explorer import section

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
PATIENCE = 180_000
"""Milliseconds, on a machine that has other things to do."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-quic"], timeout=PATIENCE
        )
        yield browser
        browser.close()


def explored(run: Path, **options: int) -> str:
    """The section of a run that has one."""
    html = section(run, **options)
    assert html is not None
    return html


@contextmanager
def opened(browser: Browser, section: str, path: Path, **options) -> Iterator[Page]:
    """A page of one section, ready. That it says something on the console, or asks for something, is an error."""
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>test</title>'
    path.write_text(f'<!doctype html><html lang="en"><head>{head}</head><body>{section}</body></html>')
    page, heard = browser.new_page(**options), []
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(path.as_uri())
    try:
        page.wait_for_selector("#explorer[data-ready]", timeout=PATIENCE)
        yield page
    finally:
        page.close()
    assert heard == [path.as_uri()]


def predicted(page: Page, inputs: list[list[float]]) -> np.ndarray:
    """What the model in a page says of points or latents, [n, ...] flat."""
    ask = "all => all.map((one) => document.getElementById('explorer').explorer.predict(one))"
    return np.array(page.evaluate(ask, inputs))


def agrees(found: np.ndarray, wanted: np.ndarray, absolute: float = 1e-4) -> None:
    """To 1e-3 relative L2 of each, and to an absolute difference of each number; `wanted` [n, ...]."""
    flat = wanted.reshape(len(wanted), -1)
    difference = np.abs(found - flat)
    assert (np.linalg.norm(difference, axis=1) / np.linalg.norm(flat, axis=1)).max() < 1e-3
    assert difference.max() < absolute

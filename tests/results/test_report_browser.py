"""report.html in a real browser: silent, narrow enough for a phone, and all of it by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from results.analysis import analyze
from results.report import write_report
from results.run_directory import RunDirectory
from tests.pages import chromium
from tests.results.conftest import record_of, simulate, summary_of

CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"
SHOWN = "[...new Set([...document.querySelectorAll('g.lines > g:not(.off)')].map((one) => Number(one.dataset.trial)))]"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("browser") / "a-run")
    record = record_of(run.name)
    with run.lock():
        run.create(record)
        simulate(run, 12, [3], record.resolved_study())
    run.write_summary(summary_of(run.name))
    write_report([run], run.report)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, run: RunDirectory) -> Iterator[Page]:
    """The report, opened from its file; what it asked for and what it said to the console is judged at the end."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    heard: list[str] = []
    page.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    address = Path(run.report).as_uri()
    page.goto(address)
    yield page
    page.close()
    assert heard == [address]


def shown(page: Page) -> set[int]:
    """Numbers of the trials that are not filtered out."""
    return set(page.evaluate(SHOWN))


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_is_never_wider_than_the_screen(page: Page, width):
    page.set_viewport_size({"width": width, "height": 740})
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_every_control_is_reached_by_tab(page: Page):
    controls = f'[...document.querySelectorAll("{CONTROLS}")].filter((one) => one.checkVisibility())'
    count = page.evaluate(f"{controls}.length")
    reached = set()
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(f"{controls}.indexOf(document.activeElement)"))
    assert reached == set(range(count))


def test_the_filter_works_by_keyboard_and_says_what_it_shows(page: Page, run: RunDirectory):
    trials = {one.number: one.params["learning_rate"] for one in analyze(run).ranking}
    assert shown(page) == set(trials)
    page.focus("#axis")
    page.keyboard.type("learn")
    page.focus("#to")
    for _ in range(4):
        page.keyboard.press("PageDown")
    place = int(page.input_value("#to")) / 1000
    assert 0 < place < 1
    limit = 1e-5 * 100**place
    kept = {number for number, value in trials.items() if value <= limit * (1 + 1e-9)}
    assert shown(page) == kept
    assert (
        page.locator("#said").inner_text().startswith(f"{len(kept)} of {len(trials)} trials: learning_rate 1.00e-5 to ")
    )
    page.focus("#state")
    page.keyboard.type("PRUNED")
    stopped = {one.number for one in analyze(run).ranking if one.state == "PRUNED"}
    assert shown(page) == kept & stopped
    page.focus("button[type=reset]")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{SHOWN}.length === {len(trials)}")
    page.select_option("#trial", "0")
    assert "#0 (reference): COMPLETE" in page.locator("#said").inner_text()
    assert page.locator(".picked").count() >= 2


def test_a_drag_along_an_axis_filters(page: Page, run: RunDirectory):
    """On the objective's axis, whose upper half is dragged over."""
    found = analyze(run)
    best = {one.number: point[1] for one in found.ranking if (point := one.best("min")) is not None}
    grab = page.locator(".grab").last
    grab.scroll_into_view_if_needed()
    box = grab.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 1)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    middle = (min(best.values()) * max(best.values())) ** 0.5
    assert shown(page) == {number for number, value in best.items() if value > middle}
    page.mouse.click(x, box["y"] + 10)
    assert shown(page) == set(best)


def test_the_scheme_is_the_systems_until_the_button_is_pressed(page: Page):
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert light != dark
    page.focus("#theme")
    assert page.get_attribute("#theme", "aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert page.evaluate(background) == light
    assert page.get_attribute("#theme", "aria-pressed") == "false"
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(background) == light
    assert not page.locator("#filter").is_visible()

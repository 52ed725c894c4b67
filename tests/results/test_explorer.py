"""The explorer's section without a model family: packing, what a page says, and what a reader does with it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from results.explorer import file, section
from results.explorer.packing import LEVELS, Kind, pack
from results.run_directory import RunError
from spaces.explorer import Explorer
from tests.pages import chromium, explored, opened

K, LATENT = 9, 4
MODEL = {
    "code": {"vergence": [], "bands": 0, "defocus": False, "turned": None},
    "latent": LATENT,
    "prior": [{"op": "linear", "weights": {"w": "prior.w", "b": "prior.b"}, "rows": LATENT}],
    "inputs": ["z", "code"],
    "decoder": [{"op": "linear", "weights": {"w": "decoder.w", "b": "decoder.b"}}],
    "output": [{"op": "softplus_kernels", "shape": [3, K, K]}],
    "shape": [3, K, K],
}


def blob(x: float, y: float) -> np.ndarray:
    """[3, K, K] of unit sum, whose light is displaced like the point."""
    axis = np.arange(K) - (K - 1) / 2
    one = np.exp(-(((axis - 2 * x) ** 2)[None] + ((axis + 2 * y) ** 2)[:, None]) / 3)
    return np.stack([one / one.sum()] * 3)


@pytest.fixture
def run(tmp_path):
    """A directory with a linear "model" and nine held-out PSFs."""
    random = np.random.default_rng(0)
    shapes = {"prior.w": (2 * LATENT, 2), "prior.b": (2 * LATENT,), "decoder.w": (3 * K * K, LATENT + 2)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["decoder.b"] = np.log(np.expm1(blob(0, 0) * 50)).astype(np.float32).reshape(-1)
    (tmp_path / "model").mkdir()
    save_file(weights, tmp_path / "model" / "model.safetensors")
    points = np.array([(x, y) for y in (-0.7, 0, 0.7) for x in (-0.7, 0, 0.7)], np.float32)
    arrays = {
        "true": np.stack([blob(*point) for point in points])[None].astype(np.float32),
        "points": points[None],
        "error": np.linspace(0.01, 0.1, 9, dtype=np.float32)[None],
        "directions": np.eye(LATENT, dtype=np.float32)[:2],
    }
    description = {
        "channels": ["0.656 um", "0.587 um", "0.486 um"],
        "pixel_um": 5.0,
        "sensor_mm": [24, 16],
        "distances": [],
        "model": MODEL,
        "sets": [{"title": "held-out positions", "true": True}],
        "sliders": ["z0", "z1"],
        "origin": "the prior's mean",
    }
    file.write(tmp_path / "explorer.safetensors", Explorer("field", description, arrays))
    return tmp_path


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def described(html: str) -> dict[str, Any]:
    found = re.search(r'id="explorer-description">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    description: dict[str, Any] = json.loads(found[1])
    return description


def test_a_run_without_one_has_no_section(tmp_path):
    assert section(tmp_path) is None


def test_a_damaged_file_is_named(run):
    (run / "explorer.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(RunError, match=r"explorer\.safetensors: damaged"):
        explored(run)


def test_a_model_that_is_not_the_explorer_s_is_told(run):
    save_file({"other": np.zeros(3, np.float32)}, run / "model" / "model.safetensors")
    with pytest.raises(RunError, match=r"has no tensor 'prior\.w'"):
        section(run)


def test_weights_are_as_exact_as_the_page_s_size_allows(run):
    sizes = {}
    for most in (10**7, 10_000, 10):
        html = explored(run, most_bytes=most + len(explored(run, most_bytes=0)))
        kinds = {one["name"]: one["kind"] for one in described(html)["index"]}
        sizes[most] = kinds.get("decoder.w")
    assert sizes[10**7] == "f16"
    assert sizes[10] is None
    shapes = {one["name"]: one["shape"] for one in described(explored(run))["index"]}
    assert shapes["prior.w"] == [LATENT, 2]  # without the log-variance


def test_the_page_asks_for_nothing(run):
    html = explored(run)
    assert not re.findall(r"""(?:src|href)=|url\(|https?:""", html)


def test_packed_arrays_come_out_as_they_were(run, tmp_path, browser):
    random = np.random.default_rng(1)
    rows = (random.normal(size=(5, 7)) * 10.0 ** np.arange(-2, 3)[:, None]).astype(np.float32)
    tiny = np.array([0, 6e-8, -3e-5, 65504, 1 / 3], np.float32)
    arrays: dict[str, tuple[Kind, np.ndarray]] = {
        "a": ("f32", rows),
        "b": ("q12", rows),
        "c": ("f16", tiny),
        "d": ("u8", np.arange(3, dtype=np.uint8)),
    }
    packed = pack(arrays)
    html = explored(run).replace("const root =", "root_of_test = unpack; const root =").replace('"use strict";', "")
    with opened(browser, html, tmp_path / "page.html") as page:
        ask = "async ([index, text]) => { const a = await root_of_test(index, text); return Object.entries(a).map(([k, v]) => [k, Array.from(v.data)]); }"
        found = {name: np.array(values) for name, values in page.evaluate(ask, [packed.index, packed.text])}
    assert np.array_equal(found["a"], rows.reshape(-1))
    step = (rows.max(axis=1) - rows.min(axis=1)) / LEVELS
    assert (np.abs(found["b"].reshape(5, 7) - rows) <= 0.51 * step[:, None]).all()
    assert np.array_equal(found["c"], tiny.astype(np.float16).astype(float))
    assert found["d"].tolist() == [0, 1, 2]


def test_mtf_and_encircled_energy_of_a_kernel(run, tmp_path, browser):
    """A Gaussian's light within r is 1 - exp(-r^2 / 2 s^2), and its MTF exp(-2 (pi s f)^2); pixels change both a little."""
    sigma, side = 2.0, 31
    axis = np.arange(side) - 15
    gauss = np.exp(-(axis[None] ** 2 + axis[:, None] ** 2) / (2 * sigma**2))
    html = explored(run).replace("const root =", "optics_of_test = { encircledEnergy, mtf, centroid }; const root =")
    with opened(browser, html.replace('"use strict";', ""), tmp_path / "page.html") as page:
        ask = "([k, n]) => [optics_of_test.encircledEnergy(k, n, 200), optics_of_test.mtf(k, n, 0.7)]"
        energy, mtf = page.evaluate(ask, [(gauss / gauss.sum()).reshape(-1).tolist(), side])
    radius, share = np.array([[one["at"], one["value"]] for one in energy]).T
    frequency, contrast = np.array([[one["at"], one["value"]] for one in mtf]).T
    assert share[0] == pytest.approx(0, abs=1e-3)
    assert share[-1] == pytest.approx(1)
    assert (np.diff(share) >= 0).all()
    # A pixel's light is a box of variance 1/12.
    assert share == pytest.approx(1 - np.exp(-(radius**2) / (2 * (sigma**2 + 1 / 12))), abs=0.02)
    assert contrast[0] == pytest.approx(1)
    assert contrast == pytest.approx(np.exp(-2 * (np.pi * sigma * frequency) ** 2), abs=1e-3)


def seen(page) -> dict[str, str]:
    """What a reader sees, and hears, of a point."""
    pictures = {
        name: page.evaluate(f"document.getElementById('explorer-{name}').toDataURL()") for name in ("here", "residual")
    }
    charts = {name: page.inner_html(f"#explorer-{name}") for name in ("energy", "mtf", "where", "numbers")}
    words = {
        f"{name} in words": page.get_attribute(f"#explorer-{name}", "aria-label") for name in ("here", "energy", "mtf")
    }
    return pictures | charts | words


def settled(page) -> dict[str, str]:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return seen(page)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_dragging_and_keys_change_what_is_shown(run, tmp_path, browser):
    with opened(browser, explored(run), tmp_path / "page.html") as page:
        start = seen(page)
        box = page.locator("#explorer-field").bounding_box()
        assert box is not None
        centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*centre)
        page.mouse.down()
        page.mouse.move(centre[0] + box["width"] / 3, centre[1] - box["height"] / 3, steps=3)
        page.mouse.up()
        dragged = settled(page)
        assert changed(start, dragged) == set(start)
        assert float(page.input_value("#explorer-x")) == pytest.approx(2 / 3, abs=0.02)
        page.keyboard.press("Home")
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("ArrowDown")
        assert [float(page.input_value(f"#explorer-{name}")) for name in "xy"] == [-0.2, -0.02]
        page.keyboard.press("Enter")
        assert [float(page.input_value(f"#explorer-{name}")) for name in "xy"] == [0, 0]
        before = settled(page)
        page.select_option("#explorer-channel", label="0.486 um")
        assert {"here", "energy", "mtf", "here in words"} <= changed(before, settled(page))


def test_a_click_on_a_dot_goes_to_that_position(run, tmp_path, browser):
    with opened(browser, explored(run), tmp_path / "page.html") as page:
        box = page.locator("#explorer-field").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] * 0.86, box["y"] + box["height"] * 0.86)
        assert [float(page.input_value(f"#explorer-{name}")) for name in "xy"] == pytest.approx([0.7, -0.7])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_window(run, tmp_path, browser, scheme):
    look = {"viewport": {"width": 360, "height": 700}, "color_scheme": scheme}
    with opened(browser, explored(run), tmp_path / "page.html", **look) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_every_control_has_a_label_and_every_picture_a_text(run, tmp_path, browser):
    with opened(browser, explored(run), tmp_path / "page.html") as page:
        unlabelled = "[...document.querySelectorAll('#explorer input, #explorer select')].filter((one) => !one.labels.length).length"
        assert page.evaluate(unlabelled) == 0
        silent = "[...document.querySelectorAll('#explorer canvas, #explorer svg')].filter((one) => !one.getAttribute('aria-label')).length"
        assert page.evaluate(silent) == 0

"""The report in a real browser without a network: it is silent, moves by keyboard, and is seen."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from cypose_dask.results import Status
from cypose_dask.run import segment, write_report
from cypose_dask.settings import Settings
from helpers.browser import chromium, started
from helpers.reports import disks, journaled
from test_results_report_page import NASTY

HERE = "document.querySelector('.shot.current').id"
LINES = "getComputedStyle(document.querySelector('#stage .lines')).visibility"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = chromium()
    if executable is None:
        pytest.skip("there is no Chromium on this machine")
    with started(executable, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(movie, tmp_path_factory):
    """The report of the synthetic movie: five frames of one position."""
    folder = tmp_path_factory.mktemp("report")
    return write_report(segment(movie, folder / "movie.zarr", Settings(channels=(0,))))


@pytest.fixture(scope="module")
def two_positions(tmp_path_factory):
    """The report of labels of two positions, with one failed frame, and names that attack."""
    labels = disks(t=4, p=2, cells=9)
    odd = {(2, 1): {"status": Status.FAILED, "error": NASTY}}
    folder = tmp_path_factory.mktemp("two")
    names = ("left", NASTY)
    return write_report(journaled(folder / "m.zarr", labels, odd=odd, position_names=names))


@pytest.fixture
def opened(browser, report):
    browser.said.clear()
    browser.asked_for.clear()
    browser.look(1280, 900)
    browser.open(report)
    return browser


def test_it_opens_without_a_network_and_says_nothing(opened, report):
    assert opened.value("document.readyState") == "complete"
    assert opened.value("document.querySelectorAll('.shot').length") == 5
    broken = "[...document.images].filter((i) => !i.complete || !i.naturalWidth).length"
    assert opened.value(broken) == 0
    for key in ("ArrowRight", "o", "p", "Home"):
        opened.press(key)
    assert opened.said == []
    assert opened.asked_for == [report.as_uri()]


def test_a_page_that_asks_for_more_is_noticed(browser, tmp_path):
    """Else the test above could not fail."""
    page = tmp_path / "x.html"
    page.write_text('<img src="http://x.test/a.png"><script>console.log(1); nothing()</script>')
    browser.said.clear()
    browser.asked_for.clear()
    browser.open(page)
    assert "http://x.test/a.png" in browser.asked_for
    assert len(browser.said) >= 2


def test_the_scrubber_moves_by_keyboard(opened):
    seen = [opened.value(HERE)]
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home", "ArrowLeft"):
        opened.press(key)
        seen.append(opened.value(HERE))
    assert seen == [f"shot-{i}" for i in (0, 1, 2, 4, 4, 3, 0, 0)]
    opened.value("document.getElementById('range').focus()")
    opened.press("ArrowRight")
    assert opened.value(HERE) == "shot-1"
    assert opened.value("document.getElementById('range').value") == "1"
    assert "frame 1" in opened.value("document.getElementById('caption').textContent")


def test_the_picture_of_the_scrubber_is_the_one_of_its_frame(opened):
    opened.press("End")
    shown = opened.value("document.querySelector('#stage .frame').src")
    assert shown == opened.value("document.querySelector('#shot-4 .frame').src")
    assert shown != opened.value("document.querySelector('#shot-0 .frame').src")


def test_outlines_go_and_come_by_key_and_by_button(opened):
    states = [opened.value(LINES)]
    opened.press("o")
    states.append(opened.value(LINES))
    pressed = "document.getElementById('outlines').getAttribute('aria-pressed')"
    assert opened.value(pressed) == "false"
    opened.click("#outlines")
    states.append(opened.value(LINES))
    assert states == ["visible", "hidden", "visible"]
    assert opened.value(pressed) == "true"


def test_outlines_are_seen(opened):
    opened.value("document.getElementById('scrub').scrollIntoView()")
    with_lines = colored_pixels(opened.screenshot())
    opened.press("o")
    assert with_lines > 200 + colored_pixels(opened.screenshot())


def colored_pixels(picture) -> int:
    """Pixels of about the colour of the outlines."""
    away = np.abs(np.asarray(picture, int) - (255, 190, 0)).sum(axis=2)
    return int((away < 60).sum())


def test_the_address_names_the_frame(opened, report):
    opened.press("ArrowRight")
    assert opened.value("location.hash") == "#frame=1"
    opened.open(report, "#frame=3")
    assert opened.value(HERE) == "shot-3"
    opened.click("#shot-2 a")
    assert opened.value(HERE) == "shot-2"


def test_a_click_on_a_curve_shows_the_nearest_frame(opened):
    opened.click(".chart svg")  # its middle, which is right of the middle of its axis
    assert opened.value(HERE) == "shot-2"
    x = opened.value("document.querySelector('.chart .cursor').getAttribute('x1')")
    assert 300 < float(x) < 380


def test_positions_change_by_key_and_by_choice(browser, two_positions):
    browser.said.clear()
    browser.open(two_positions)
    browser.press("ArrowRight")
    browser.press("p")
    assert browser.value("document.getElementById('caption').textContent").startswith("frame 1")
    assert browser.value(HERE) == "shot-5"
    browser.press("p")
    assert browser.value(HERE) == "shot-1"
    choose = "const s = document.getElementById('position'); s.value = '1'; "
    browser.value(choose + "s.dispatchEvent(new Event('change'))")
    assert browser.value(HERE) == "shot-5"
    assert browser.said == []


def test_names_that_attack_are_text(browser, two_positions):
    browser.said.clear()
    browser.asked_for.clear()
    browser.open(two_positions)
    assert browser.value("document.scripts.length") == 1
    assert browser.value("document.body.innerText.includes('alert(1)')")
    assert browser.said == []
    assert browser.asked_for == [two_positions.as_uri()]


def test_a_flagged_frame_has_a_picture_that_leads_to_it(browser, two_positions):
    browser.open(two_positions)
    assert browser.value("document.querySelectorAll('.thumb img').length") == 2
    browser.click(".thumb")
    assert browser.value(HERE) == "shot-6"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_seen_in_any_light_and_width(opened, report, scheme, width):
    opened.look(width, 900, scheme=scheme)
    opened.open(report)
    pixels = np.asarray(opened.screenshot())
    assert pixels.shape == (900, width, 3)
    assert pixels.std() > 10
    assert (pixels[:8].mean() > 200) == (scheme == "light")
    assert opened.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(opened, report, scheme):
    """Contrast of at least 4.5 to 1 with the paper, as WCAG 2 asks for (level AA)."""
    opened.look(1280, 900, scheme=scheme)
    opened.open(report)
    value = "getComputedStyle(document.querySelector({0!r})).{1}"
    paper = luminance(opened.value(value.format("body", "backgroundColor")))
    for selector in ("body", ".aside", "nav a", ".counts dt"):
        ink = luminance(opened.value(value.format(selector, "color")))
        low, high = sorted((ink, paper))
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def luminance(color: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``. Source: WCAG 2.2, "relative luminance"."""
    values = np.array([float(v) for v in color[4:-1].split(",")]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_it_can_be_printed(opened):
    """All pictures are on the pages, and the buttons are not."""
    opened.do("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.querySelector({0!r})).display"
    assert opened.value(shown.format(".controls")) == "none"
    assert opened.value(shown.format(".sheet")) == "grid"
    assert len(opened.do("Page.printToPDF")["data"]) > 10_000
    opened.do("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
def test_the_picture_of_the_documentation_can_be_made_again(tmp_path):
    if chromium() is None:
        pytest.skip("there is no Chromium on this machine")
    made = tmp_path / "report.png"
    script = ROOT / "scripts" / "screenshots.py"
    subprocess.run([sys.executable, script, "report", made], check=True)
    sizes = []
    for path in (made, ROOT / "docs" / "pictures" / "report.png"):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[0] == sizes[1]

"""The report's page: nothing from outside, nothing that runs, pictures of bounded size."""

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cypose_dask.results.report import Content, Flag, Shot, make_picture, measure_cells, render
from cypose_dask.results.report.card import as_html
from cypose_dask.results.report.curves import Curve, Series, TimeAxis, draw
from helpers.reports import Page, disks
from helpers.results import layout_of
from test_results_report_flags import numbers_of

NASTY = (
    '</title><script>alert(1)</script><img src="https://x.test/a.png" onerror=alert(2)>\x1b[31m"\''
)
OUTSIDE = re.compile(r"https?:|//|file:|javascript:", re.I)


def content_of(labels, words="movie.nd2", **changes):
    """A page about labels (T, P, 1, Y, X) in which every name and text is `words`."""
    count, positions = labels.shape[:2]
    layout = layout_of(labels, position_names=(words,) * positions)
    shots = [
        Shot(
            place=(t, p, 0),
            picture=make_picture(labels[t, p, 0], labels[t, p, 0], side_px=64, most_bytes=9999),
            sizes=measure_cells(labels[t, p, 0]),
            unreadable=words if t == 0 else "",
        )
        for p in range(positions)
        for t in range(count)
    ]
    facts = {
        "title": words,
        "layout": layout,
        "start_frame": 0,
        "numbers": numbers_of(labels.max(axis=(2, 3, 4)).T),
        "flags": (Flag((1, 0, 0), "failed", words),),
        "shots": tuple(shots),
        "has_frames": True,
        "notes": (words,),
        "facts": {words: ((words, words),)},
        "card": f"# {words}\n\n| {words} |\n\n- {words}\n\n`{words}` **{words}**",
    }
    return Content(**facts | changes)


def page_of(tmp_path, content):
    path = tmp_path / "x.html"
    path.write_bytes(render(content))
    return Page(path)


def require_self_contained(page):
    """No tag loads anything but what is inside of the page, and only our script runs."""
    for name in ("src", "href", "data", "action", "poster", "srcset", "xlink:href"):
        for value in page.having(name):
            assert value.startswith(("data:", "#")), value
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not page.having("style")


def test_a_page_loads_nothing_from_outside(tmp_path):
    page = page_of(tmp_path, content_of(disks()))
    require_self_contained(page)
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_names_from_files_do_not_run(tmp_path):
    page = page_of(tmp_path, content_of(disks(p=2), NASTY))
    require_self_contained(page)
    assert {tag for tag, _ in page.tags} == {
        tag for tag, _ in page_of(tmp_path, content_of(disks(p=2))).tags
    }
    assert "alert(1)" in page.text  # it is shown, as text
    assert "\x1b" not in page.text


@given(st.text())
def test_any_text_gives_the_same_tags(words):
    tags = [re.sub(rb">[^<]*", b">", render(content_of(disks(t=2), w))) for w in (words, "x")]
    kinds = [re.findall(rb"<(/?[a-z0-9]+)", page) for page in tags]
    assert kinds[0].count(b"script") == kinds[1].count(b"script") == 1
    assert kinds[0].count(b"img") == kinds[1].count(b"img")


def test_every_picture_has_words_and_every_control_a_label(tmp_path):
    page = page_of(tmp_path, content_of(disks()))
    for attrs in page.of_class("frame"):
        assert re.search(r"frame \d.*cells", attrs["alt"])
    labelled = [a for t, a in page.tags if t == "svg"]
    assert all(a["role"] == "img" and a["aria-label"] for a in labelled)
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    assert set(page.having("aria-labelledby")) <= set(ids)


def test_links_into_the_page_lead_somewhere(tmp_path):
    page = page_of(tmp_path, content_of(disks()))
    ids = set(page.having("id"))
    for link in page.having("href"):
        if link.startswith("#frame="):
            assert f"shot-{link.removeprefix('#frame=')}" in ids
        elif link.startswith("#"):
            assert link[1:] in ids


def test_a_page_without_pictures_is_a_page(tmp_path):
    page = page_of(tmp_path, content_of(disks(), shots=(), flags=()))
    require_self_contained(page)
    assert "Nothing is odd about any frame." in page.text


def test_text_is_shortened(tmp_path):
    page = page_of(tmp_path, content_of(disks(), "x" * 5000, card=""))
    assert max(len(found) for found in re.findall("x+", page.text)) == 400


def curve_of(values, **changes):
    series = tuple(
        Series(str(i), np.arange(len(v)), np.array(v, float)) for i, v in enumerate(values)
    )
    return Curve(
        **{"title": "T", "unit": "u", "series": series, "dotted": False, "note": ""} | changes
    )


def drawn_points(svg):
    """Points of each series, in px."""
    paths = re.findall(r'<g class="s\d[^"]*"><path d="([^"]*)"', svg)
    return [[tuple(map(float, p)) for p in re.findall(r"([\d.]+) ([\d.-]+)", d)] for d in paths]


def test_a_curve_has_a_series_a_position_in_the_order_of_time():
    svg = draw(curve_of([[1, 2, 3], [3, 2, 1]]), TimeAxis(0, 2, None))
    up, down = drawn_points(svg)
    assert [x for x, _ in up] == sorted(x for x, _ in up) == [x for x, _ in down]
    assert [y for _, y in up] == sorted((y for _, y in up), reverse=True)
    assert [y for _, y in up] == [y for _, y in reversed(down)]


def test_a_line_ends_where_a_value_is_unknown():
    svg = draw(curve_of([[1, 2, np.nan, 2, np.nan, 3, 3]]), TimeAxis(0, 6, None))
    (path,) = re.findall(r'<path d="(M[^"]*)"/></g>', svg)
    assert path.count("M") == 3
    assert path.count("h0") == 1  # a lone value is a dot


@pytest.mark.parametrize("value", [0.0, 1e-7, 1.0, -3.0, 12345.678, 3e9])
def test_a_constant_can_be_drawn(value):
    svg = draw(curve_of([[value] * 3]), TimeAxis(0, 2, 60.0))
    assert "nan" not in svg
    assert len(set(re.findall(r'text-anchor="end">([^<]*)<', svg))) > 1


def test_a_movie_of_one_frame_can_be_drawn():
    assert "nan" not in draw(curve_of([[5]]), TimeAxis(7, 7, 60.0))


@pytest.mark.parametrize("positions", [1, 60])
def test_a_long_curve_is_small_and_loses_no_peak(positions):
    values = np.ones((positions, 10_000))
    values[:, 7777] = 9
    svg = draw(curve_of(values), TimeAxis(0, 9999, None))
    assert len(svg) < 120_000
    for points in drawn_points(svg):
        assert min(y for _, y in points) < 40 < max(y for _, y in points)


# Some libraries switch subnormal numbers off in the whole process.
VALUES = st.just(np.nan) | st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(VALUES, min_size=1, max_size=30))
def test_what_is_drawn_lies_inside_of_the_picture(values):
    curve = curve_of([values])
    if curve.is_known:
        for points in drawn_points(draw(curve, TimeAxis(0, len(values) - 1, None))):
            assert all(52 <= x <= 632 and 9 <= y <= 157 for x, y in points)


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("shape", [(40, 60), (500, 300), (2000, 31), (1, 1)])
def test_outlines_lie_above_the_frame_at_the_same_proportions(shape):
    labels = np.ones(shape, np.uint32)
    picture = make_picture(labels, labels, side_px=200, most_bytes=10**6)
    frame, outlines = opened(picture.frame), opened(picture.outlines)
    assert frame.size == (picture.width, picture.height)
    assert max(outlines.size) <= 200 >= max(frame.size)
    assert frame.width / frame.height == pytest.approx(outlines.width / outlines.height, rel=0.1)


def test_outlines_are_transparent_but_for_the_borders_of_cells():
    labels = np.zeros((50, 50), np.uint32)
    labels[10:40, 10:40] = 1
    rgba = np.asarray(
        opened(make_picture(labels, labels, side_px=50, most_bytes=10**6).outlines).convert("RGBA")
    )
    assert (rgba[10, 10:40] == (255, 190, 0, 255)).all()
    assert (rgba[11:39, 11:39, 3] == 0).all()
    assert (rgba[:10, :, 3] == 0).all()


@pytest.mark.parametrize("most_bytes", [60_000, 15_000, 3_000])
def test_a_picture_of_noise_keeps_to_its_bytes(most_bytes):
    random = np.random.default_rng(0)
    noise = random.integers(0, 65535, (1024, 1024)).astype(np.uint16)
    labels = random.integers(0, 900, (128, 128)).astype(np.uint32).repeat(8, 0).repeat(8, 1)
    picture = make_picture(noise, labels, side_px=720, most_bytes=most_bytes)
    assert len(picture.frame) + len(picture.outlines) <= most_bytes


def test_pictures_are_inside_of_the_page(tmp_path):
    content = content_of(disks(t=3))
    page = page_of(tmp_path, content)
    found = [base64.b64decode(a["src"].partition(",")[2]) for a in page.of_class("frame")]
    assert found == [shot.picture.frame for shot in content.shots]


def test_a_card_keeps_its_headings_tables_lists_and_code():
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |"
    card = f"# Name\n\nSome `code`\nand **more**.\n\n{table}\n\n- one\n  on\n- two\n"
    assert as_html(card) == (
        "<h4>Name</h4><p>Some <code>code</code> and <strong>more</strong>.</p>"
        "<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr></table>"
        "<ul><li>one\n  on\n</li><li>two</li></ul>"
    )

"""Axes come from names, from the caller, or from a rule that is printed; never from sizes."""

import pytest

from cypose_dask.errors import MovieError
from cypose_dask.movies.axes import full_sizes, settle_axes


def test_known_letters_are_kept_without_a_note():
    settled = settle_axes("TCYX", (2, 3, 4, 5))
    assert (settled.letters, settled.notes) == ("TCYX", ())


@pytest.mark.parametrize("letter", "IQ")
def test_one_nameless_axis_is_time_and_says_so(letter):
    settled = settle_axes(f"{letter}YX", (7, 4, 5))
    assert settled.letters == "TYX"
    assert f"{letter} taken as T: 7 frames" in settled.notes[0]


UNKNOWN = [
    ("QQYX", (2, 3, 4, 5)),
    ("QTYX", (2, 3, 4, 5)),
    ("IQYX", (2, 3, 4, 5)),
    ("AYX", (2, 4, 5)),
    ("HYX", (2, 4, 5)),
    ("UU", (4, 5)),
]


@pytest.mark.parametrize(("stored", "shape"), UNKNOWN)
def test_what_is_not_known_is_asked(stored, shape):
    with pytest.raises(MovieError, match=r"one of the letters TPZCYX for each.*\(--axes\)"):
        settle_axes(stored, shape)


@pytest.mark.parametrize(("stored", "words"), [("TZ", "no Y and X"), ("YXYX", "X, Y twice")])
def test_impossible_axes_are_refused(stored, words):
    with pytest.raises(MovieError, match=rf"{words}.*axes="):
        settle_axes(stored, (4, 5, 6, 7)[: len(stored)])


@pytest.mark.parametrize("size", [2, 3, 5, 100, 2000])
def test_sizes_never_decide(size):
    assert settle_axes("QYX", (size, 4, 5)).letters == "TYX"
    with pytest.raises(MovieError):
        settle_axes("QQYX", (size, 3, 4, 5))


def test_singletons_without_a_name_do_not_matter():
    assert settle_axes("QQQYX", (1, 6, 1, 4, 5)).letters == "-T-YX"
    assert settle_axes("AYX", (1, 4, 5)).letters == "-YX"


def test_a_pixel_wide_image_keeps_its_y_and_x():
    assert settle_axes("QQYX", (1, 3, 1, 1), "TYX").letters == "-TYX"


@pytest.mark.parametrize("requested", ["TZYX", "tzyx"])
def test_requested_letters_win_and_are_noted(requested):
    settled = settle_axes("ZTYX", (2, 3, 4, 5), requested)
    assert settled.letters == "TZYX"
    assert "as asked" in settled.notes[0]


def test_requested_letters_may_leave_out_singletons():
    assert settle_axes("TZCYX", (7, 1, 1, 4, 5), "ZYX").letters == "Z--YX"


def test_requested_letters_that_agree_need_no_note():
    assert settle_axes("TYX", (7, 4, 5), "TYX").notes == ()


@pytest.mark.parametrize("requested", ["TYXX", "YX", "TTYX", "TQYX", "TPZC", "", "TZCYX"])
def test_requested_letters_must_fit(requested):
    with pytest.raises(MovieError, match="expected"):
        settle_axes("QQYX", (2, 3, 4, 5), requested)


def test_sizes_always_have_six_keys_in_order():
    assert list(full_sizes({"X": 3, "Y": 2, "S": 4}).items()) == [
        ("T", 1), ("P", 1), ("Z", 1), ("C", 1), ("Y", 2), ("X", 3),
    ]  # fmt: skip

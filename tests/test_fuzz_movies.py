"""Files whose structure is damaged: the same movie, an error of ours, or what the file declares."""

from __future__ import annotations

import os
import resource
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fuzz import pool as pools
from fuzz.fields import Field
from fuzz.mutate import Change, Parent, make_mutant
from fuzz.pool import Pool
from fuzz.seeds import full_of_data, make_seeds
from fuzz.seen import Seen, look
from fuzz.verdict import verdict

FEW, MANY = 300, 10_000
# --allow-damaged is the door through which made-up pixels would come.
ALLOWED = [False, True]


@pytest.fixture(scope="module")
def pool():
    with Pool() as pool:
        yield pool


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    return [Parent.read(path) for path in make_seeds(tmp_path_factory.mktemp("seeds"))]


@pytest.fixture(scope="module")
def intact(pool, parents, tmp_path_factory):
    """What is seen of every seed, by its name."""
    folder = tmp_path_factory.mktemp("intact")
    return {parent.name: pool.look(_written(folder, parent)) for parent in parents}


def _written(folder: Path, parent: Parent) -> Path:
    path = folder / parent.name
    path.write_bytes(parent.data)
    return path


def _mutants(parents, first, count):
    """Take turns at the seeds; each has its own numbers."""
    return (make_mutant(parents[i % len(parents)], first + i // len(parents)) for i in range(count))


def _failures(pool, parents, intact, mutants, *, allow_damaged):
    """Return the mutants with an outcome that is not allowed, in words that make them again."""
    kinds, bad = Counter(), []
    for mutant, seen in pool.look_at_all(mutants, allow_damaged=allow_damaged):
        found = verdict(intact[mutant.name], seen, mutant.change, mutant.data)
        kinds[found.kind] += 1
        if not found.allowed:
            bad.append(f"{mutant.words}\n    {found.kind}: {found.why[-600:]}")
    print(dict(kinds))
    return bad


def test_every_seed_opens(intact):
    assert {name: seen.words for name, seen in intact.items() if seen.outcome != "opened"} == {}


@pytest.mark.parametrize("allow_damaged", ALLOWED)
def test_damaged_structure_never_looks_like_another_movie(pool, parents, intact, allow_damaged):
    mutants = _mutants(parents, 0, FEW // 2)
    assert not _failures(pool, parents, intact, mutants, allow_damaged=allow_damaged)


@pytest.mark.slow
@pytest.mark.parametrize("allow_damaged", ALLOWED)
def test_ten_thousand_mutants(pool, parents, intact, allow_damaged):
    mutants = _mutants(parents, 1000, MANY if not allow_damaged else MANY // 5)
    assert not _failures(pool, parents, intact, mutants, allow_damaged=allow_damaged)


# ---- mutants -------------------------------------------------------------------------------


def test_a_mutant_is_the_same_for_ever(parents):
    for parent in parents:
        one, two = (make_mutant(parent, 7) for _ in range(2))
        assert (one.data, one.change) == (two.data, two.change)
        assert f"{parent.name} 7" in one.words


def test_mutants_differ_from_their_parent_and_each_other(parents):
    for parent in parents:
        made = [make_mutant(parent, i).data for i in range(20)]
        # A field that was swapped with an equal one changes nothing.
        assert sum(data != parent.data for data in made) > 14
        assert len(set(made)) > 10


def test_no_field_is_a_pixel(tmp_path, parents):
    """Changing any field leaves the pixels where they are in the file."""
    movie = full_of_data(0, T=4, C=2)  # that of the first seed
    parent = parents[0]
    assert parent.name == "tc.nd2"
    covered = np.zeros(len(parent.data), bool)
    for field in parent.fields:
        covered[field.at : field.at + field.size] = True
    for frame in movie[:, 0, 0]:
        begin = parent.data.index(np.moveaxis(frame, 0, -1).tobytes())
        assert not covered[begin : begin + frame.nbytes].any()


def test_fields_know_their_values(parents):
    field = Field(at=4, size=2, what="x", byteorder=">")
    assert field.value(b"....\x01\x02") == 258
    assert field.packed(65_537) == b"\0\1"
    assert parents[0].fields[0].value(parents[0].data) == 0x0ABECEDA


# ---- the pool ------------------------------------------------------------------------------


def _dies(pipe):
    pipe.send("ready")
    with suppress(EOFError):
        pipe.recv()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()


def _sleeps(pipe):
    pipe.send("ready")
    with suppress(EOFError):
        pipe.recv()
        pipe.poll(60)


@pytest.mark.parametrize(("body", "outcome"), [(_dies, "crashed"), (_sleeps, "hung")])
def test_a_child_that_is_lost_is_an_outcome_and_is_replaced(monkeypatch, body, outcome):
    monkeypatch.setattr(pools, "_serve", body)
    monkeypatch.setattr(pools, "TIME_LIMIT_S", 0.5)
    with Pool(1) as pool:
        assert [pool.look("a").outcome for _ in range(2)] == [outcome] * 2


def _greedy(pipe):
    pools.bound_memory()
    pipe.send("ready")
    pipe.recv()
    try:
        pipe.send(Seen("opened", str(len(bytearray(2**32)))))
    except MemoryError:
        pipe.send(Seen("memory"))


def test_a_child_cannot_take_all_memory(monkeypatch):
    monkeypatch.setattr(pools, "_serve", _greedy)
    with Pool(1) as pool:
        assert pool.look("a").outcome == "memory"


def test_an_error_of_ours_that_hides_a_wish_for_memory_is_seen(tmp_path, monkeypatch):
    from cypose_dask.errors import MovieError
    from cypose_dask.movies import open as door

    def greedy(*_, **__):
        try:
            raise MemoryError
        except MemoryError as error:
            raise MovieError("too large") from error

    monkeypatch.setattr(door, "_describe", greedy)
    assert look(str(tmp_path / "a")).outcome == "memory"


# ---- the verdict ---------------------------------------------------------------------------

PLACES = Change("an offset")
SAYS = Change("a size", declares=True)
ENCODES = Change("a type", declares=True, encodes=True)


def opened(frames, notes=(), **info):
    """Return what is seen of a movie of these frames (C, Y, X)."""
    first = next(iter(frames.values()))
    sizes = {"T": len(frames), "P": 1, "Z": 1, "C": first.shape[0],
             "Y": first.shape[1], "X": first.shape[2]}  # fmt: skip
    described = {
        "sizes": sizes, "dtype": first.dtype, "channel_names": ("BF",), "position_names": ("0",),
        "pixel_size_um": 0.1, "z_step_um": None, "interval_s": 2.0, "notes": notes, "damaged": (),
        "format": "tiff", **info,
    }  # fmt: skip
    return Seen("opened", info=described, frames=frames)


@pytest.fixture(scope="module")
def whole():
    movie = full_of_data(1, T=3, Y=4, X=6)
    return opened({(t, 0, 0): movie[t, 0, 0] for t in range(3)})


def _with(seen, at, frame):
    return replace(seen, frames={**seen.frames, at: frame})


def _judged(whole, seen, change=PLACES, data=b""):
    found = verdict(whole, seen, change, data)
    return found.allowed, found.kind


def test_the_same_movie_is_allowed(whole):
    assert _judged(whole, whole) == (True, "same")
    assert _judged(whole, opened(dict(whole.frames), notes=("a note",))) == (True, "same")


@pytest.mark.parametrize("outcome", ["raised", "crashed", "hung", "memory"])
def test_only_our_errors_are_allowed(whole, outcome):
    assert _judged(whole, Seen(outcome), ENCODES) == (False, outcome)
    assert _judged(whole, Seen("refused", "cut off")) == (True, "refused")


def test_a_frame_that_raises_is_allowed_beside_intact_ones(whole):
    assert _judged(whole, _with(whole, (1, 0, 0), "cut off")) == (True, "damaged")
    other = _with(_with(whole, (1, 0, 0), "cut off"), (2, 0, 0), whole.frames[0, 0, 0])
    assert _judged(whole, other) == (False, "silent")


@pytest.mark.parametrize("change", [PLACES, SAYS])
def test_zeros_are_never_allowed(whole, change):
    seen = _with(whole, (1, 0, 0), np.zeros_like(whole.frames[1, 0, 0]))
    assert _judged(whole, seen, change) == (False, "silent")


def test_other_pixels_need_a_declaration(whole):
    seen = _with(whole, (1, 0, 0), whole.frames[0, 0, 0])
    assert _judged(whole, seen) == (False, "silent")
    assert _judged(whole, seen, SAYS) == (True, "declared")


def test_pixels_of_another_size_must_be_in_the_file(whole):
    narrow = opened({at: frame[..., :5].copy() for at, frame in whole.frames.items()})
    assert _judged(whole, narrow) == (False, "silent")
    assert _judged(whole, narrow, SAYS) == (True, "declared")
    made_up = _with(narrow, (0, 0, 0), narrow.frames[0, 0, 0] + 1)
    assert _judged(whole, made_up, SAYS) == (False, "silent")
    assert _judged(whole, made_up, SAYS, made_up.frames[0, 0, 0].tobytes()) == (True, "declared")
    assert _judged(whole, made_up, ENCODES) == (True, "declared")


def test_fewer_frames_need_a_declaration_and_a_note(whole):
    first = {(0, 0, 0): whole.frames[0, 0, 0]}
    note = "1000 bytes of the file belong to no frame that is read"
    assert _judged(whole, opened(first), SAYS) == (False, "silent")
    assert _judged(whole, opened(first, notes=(note,))) == (False, "silent")
    assert _judged(whole, opened(first, notes=(note,)), SAYS) == (True, "declared")


def test_other_metadata_needs_a_declaration_lost_metadata_a_note(whole):
    other = opened(dict(whole.frames), pixel_size_um=7.0)
    lost = {"pixel_size_um": None, "channel_names": ("0",)}
    assert _judged(whole, other) == (False, "silent")
    assert _judged(whole, other, SAYS) == (True, "declared")
    assert _judged(whole, opened(dict(whole.frames), **lost)) == (False, "silent")
    note = "A part of the ND2 metadata could not be read (KeyError); pixels are fine."
    assert _judged(whole, opened(dict(whole.frames), notes=(note,), **lost)) == (True, "same")

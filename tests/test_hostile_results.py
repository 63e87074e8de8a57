"""Results made to do harm: refused or read within bounds, and nothing written elsewhere.

Every store here is built first; one process with little memory then does to each what users do.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import textwrap

import google_crc32c
import numpy as np
import pytest

from cypose_dask.errors import ResultError
from cypose_dask.results import export_tif, open_result, save_preview
from cypose_dask.results.naming import journal_of
from cypose_dask.results.writing import write_block, write_status
from cypose_dask.results.zstd_frame import content_size
from cypose_dask.run import segment
from cypose_dask.run.checks import verify
from helpers.results import layout_of, make_labels, write_result

LABELS = "0/labels/cells/0"
SHARD = f"{LABELS}/c/0/0/0/0"
FRAME_BYTES = 12 * 16 * 4
ABSURD = 10**6
BOMB_BYTES = 8 * 2**30
LIMIT_BYTES = 4 * 2**30
BOUND_MB = 400


# ---- how to spoil a store --------------------------------------------------------------------


def edit(path, change):
    """Change the JSON of one ``zarr.json``."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_layout(store, **changes):
    edit(store / "zarr.json", lambda j: j["attributes"]["cypose_dask"]["layout"].update(changes))


def edit_labels(store, *, shape=None, shard=None, chunk=None):
    def change(content):
        if shape:
            content["shape"] = shape
        if shard:
            content["chunk_grid"]["configuration"]["chunk_shape"] = shard
        if chunk:
            content["codecs"][0]["configuration"]["chunk_shape"] = chunk

    edit(store / LABELS / "zarr.json", change)


def edit_counts(store, shape):
    for name in ("status", "cells"):

        def change(content):
            content["shape"] = content["chunk_grid"]["configuration"]["chunk_shape"] = shape

        edit(store / "0" / name / "zarr.json", change)


def zstd_of_zeros(size):
    """A zstd frame of a few hundred kilobytes that unpacks to any number of zeros."""
    block, rest = 128 * 2**10, []
    while size_left := size - block * len(rest):
        length = min(block, size_left)
        last = length == size_left
        rest.append(((length << 3) | (1 << 1) | last).to_bytes(3, "little") + b"\0")
        if last:
            break
    # Eight bytes of content size, a window of 128 kB.
    return (
        b"\x28\xb5\x2f\xfd" + bytes([0b11000000, 0x38]) + struct.pack("<Q", size) + b"".join(rest)
    )


def shard_of(chunk, entry=None):
    """A shard of two frames of which the first has this chunk."""
    offset, length = entry or (0, len(chunk))
    index = struct.pack("<4Q", offset, length, 2**64 - 1, 2**64 - 1)
    return chunk + index + struct.pack("<I", google_crc32c.value(index))


def write_chunk(store, chunk, entry=None):
    (store / SHARD).write_bytes(shard_of(chunk, entry))


def sparse(path, size=2**40):
    path.write_bytes(b"")
    os.truncate(path, size)


def replace_by_link(path, target):
    path.unlink()
    path.symlink_to(target)


def absurd_frame(store):
    edit_layout(store, height=ABSURD, width=ABSURD)
    edit_labels(
        store,
        shape=[5, 1, ABSURD, ABSURD],
        shard=[2, 1, ABSURD, ABSURD],
        chunk=[1, 1, ABSURD, ABSURD],
    )


def absurd_length(store):
    edit_layout(store, frames=10**12)
    edit_labels(store, shape=[10**12, 1, 12, 16])
    edit_counts(store, [10**12, 1])


def absurd_positions(store):
    edit_layout(store, position_names=["a"] * 10**5, frames=10**5)


def absurd_block(store):
    edit_layout(store, frames_per_block=10**9)
    edit_labels(store, shard=[10**9, 1, 12, 16])


def big_block(store):
    """A shard that a layout may have, whose index alone is as large as its file claims to be."""
    edit_layout(store, frames_per_block=2**20)
    edit_labels(store, shard=[2**20, 1, 12, 16])
    sparse(store / SHARD, 2**29)


def one_frame_a_shard(store):
    edit_layout(store, frames_per_block=1)
    edit_labels(store, shard=[1, 1, 12, 16])


def sparse_shard(store):
    one_frame_a_shard(store)
    sparse(store / SHARD)


def packed_otherwise(name, configuration):
    def spoil(store):
        def change(content):
            codecs = content["codecs"][0]["configuration"]["codecs"]
            codecs[1] = {"name": name, "configuration": configuration}

        edit(store / LABELS / "zarr.json", change)

    return spoil


def a_status_bomb(store):
    (store / "0/status/c/0/0").write_bytes(zstd_of_zeros(BOMB_BYTES))


# What it is, how the store is spoiled, and which words the refusal has.
REFUSED = {
    "a frame of 10^12 pixels": (absurd_frame, "height x width = 1000000000000"),
    "10^12 frames": (absurd_length, "frames x planes x positions = 1000000000000"),
    "10^5 positions of 10^5 frames": (absurd_positions, "frames x planes x positions"),
    "blocks of 10^9 frames": (absurd_block, "frames_per_block x planes = 1000000000"),
    "a layout of other frames": (lambda s: edit_layout(s, height=13), "by the layout"),
    "a layout of more frames": (lambda s: edit_layout(s, frames=7), "by the layout"),
    "a layout of more planes": (lambda s: edit_layout(s, planes=2), "by the layout"),
    "a layout of other blocks": (lambda s: edit_layout(s, frames_per_block=3), "by the layout"),
    "a layout of more positions": (
        lambda s: edit_layout(s, position_names=["a", "b"]),
        "at position 1",
    ),
    "a layout without positions": (lambda s: edit_layout(s, position_names=[]), "no names"),
    "a layout of nothing": (lambda s: edit_layout(s, frames=0), "frames = 0"),
    "a layout of less than nothing": (lambda s: edit_layout(s, width=-16), "width = -16"),
    "a layout in words": (lambda s: edit_layout(s, planes="1"), "planes = 1"),
    "a layout of halves": (lambda s: edit_layout(s, frames=5.0), "frames = 5.0"),
    "a layout with a NaN": (lambda s: edit_layout(s, interval_s=float("nan")), "interval_s = nan"),
    "an unknown field": (lambda s: edit_layout(s, evil=1), "TypeError"),
    "labels of 10^12 pixels": (
        lambda s: edit_labels(s, shape=[5, 1, ABSURD, ABSURD]),
        "by the layout",
    ),
    "chunks of 10^12 pixels": (
        lambda s: edit_labels(s, shard=[2, 1, ABSURD, ABSURD], chunk=[1, 1, ABSURD, ABSURD]),
        "by the layout",
    ),
    "chunks of one pixel": (lambda s: edit_labels(s, chunk=[1, 1, 1, 1]), "by the layout"),
    "status of 10^12 frames": (lambda s: edit_counts(s, [10**12, 1]), "by the layout"),
    "labels of another type": (
        lambda s: edit(s / LABELS / "zarr.json", lambda j: j.update(data_type="uint64")),
        "by the layout",
    ),
    "labels that are 7 where nothing is": (
        lambda s: edit(s / LABELS / "zarr.json", lambda j: j.update(fill_value=7)),
        "by the layout",
    ),
    "chunks of gzip": (packed_otherwise("gzip", {"level": 1}), "packed by BytesCodec, GzipCodec"),
    "chunks of pickle": (packed_otherwise("numcodecs.pickle", {}), "no array of a result"),
    "a plan that is a number": (
        lambda s: edit(
            s / "zarr.json", lambda j: j["attributes"]["cypose_dask"].update(plan=7)
        ),
        "no result of cypose-dask",
    ),
    "a first frame that is a word": (
        lambda s: edit(
            s / "zarr.json",
            lambda j: j["attributes"]["cypose_dask"]["plan"].update(start_frame="../x"),
        ),
        "which is no number",
    ),
    "metadata of a terabyte": (lambda s: sparse(s / "zarr.json"), "would be read at once"),
    "metadata of a hundred thousand brackets": (
        lambda s: (s / "zarr.json").write_text("[" * 10**5),
        "RecursionError",
    ),
    "an array of a hundred thousand brackets": (
        lambda s: (s / LABELS / "zarr.json").write_text("[" * 10**5),
        "RecursionError",
    ),
    "metadata that are a device": (
        lambda s: replace_by_link(s / LABELS / "zarr.json", "/dev/zero"),
        "no regular file",
    ),
    "a status that is a device": (
        lambda s: replace_by_link(s / "0/status/c/0/0", "/dev/zero"),
        "cannot be read",
    ),
    "a status that unpacks to 8 GB": (a_status_bomb, "unpack to 8589934592 bytes instead of 5"),
    "a status of a terabyte": (lambda s: sparse(s / "0/status/c/0/0"), "cannot be read"),
    "a shard of a terabyte": (sparse_shard, "would be read at once"),
    "a shard that is a pipe": (
        lambda s: ((s / SHARD).unlink(), os.mkfifo(s / SHARD)),
        "no regular file",
    ),
    "a shard that is a device": (
        lambda s: replace_by_link(s / SHARD, "/dev/zero"),
        "no regular file",
    ),
    "a chunk that unpacks to 8 GB": (
        lambda s: write_chunk(s, zstd_of_zeros(BOMB_BYTES)),
        "unpack to 8589934592 bytes instead of 768",
    ),
    "a chunk with another one behind it": (
        lambda s: write_chunk(s, zstd_of_zeros(FRAME_BYTES) + zstd_of_zeros(BOMB_BYTES)),
        "of which one zstd frame has",
    ),
    "a chunk that says less than it has": (
        lambda s: write_chunk(s, lying(zstd_of_zeros(BOMB_BYTES), FRAME_BYTES)),
        "cannot be read",
    ),
    "a chunk that does not say its size": (
        lambda s: write_chunk(s, b"\x28\xb5\x2f\xfd\x00\x38\x01\x00\x00"),
        "does not say its size",
    ),
    "a chunk beyond the file": (
        lambda s: write_chunk(s, b"x", entry=(2**50, 2**40)),
        "cannot be read",
    ),
    "a chunk of nearly 2^64 bytes": (
        lambda s: write_chunk(s, b"x", entry=(0, 2**64 - 2)),
        "cannot be read",
    ),
    "an index of 16 MB of nothing": (big_block, "cannot be read"),
}  # fmt: skip


def lying(frame, size):
    return frame[:6] + struct.pack("<Q", size) + frame[14:]


# ---- what users do to it, with little memory -------------------------------------------------

USER = """
    import json, logging, re, resource, sys
    from pathlib import Path
    import numpy as np
    import numcodecs, tifffile, zarr.codecs
    from cypose_dask.errors import CyposeError
    from cypose_dask.results import export_tif, open_result, save_preview
    from cypose_dask.run.state import state_of
    from cypose_dask.run.checks import verify

    class Movie:
        info = type("Info", (), {"path": "movie.nd2"})
        def read_frame(self, t, p, z):
            return np.zeros((1, 12, 16), np.uint16)

    def status(store):
        state = state_of(open_result(store))
        return [state.positions(), state.missing(), state.whole]

    def check(store):
        return " ".join(str(f) for f in verify(store, frames=0) if f.is_fault)

    out = Path(sys.argv[2])
    ACTS = {
        "status": status,
        "export": lambda s: export_tif(s, out / "x.tif", allow_incomplete=True),
        "preview": lambda s: save_preview(s, Movie(), out / "x.png", times=[0, 1, 2, 3, 4]),
        "verify": check,
    }

    def peak():
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

    logging.disable()
    limit = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for store in sorted(Path(sys.argv[1]).glob("*.zarr")):
        for name, act in ACTS.items():
            before = peak()
            try:
                done = ["done", str(act(store))]
            except CyposeError as error:
                done = ["refused", str(error)]
            except BaseException as error:
                done = ["crashed", repr(error)]
            print(json.dumps([store.stem, name, *done, peak() - before]), flush=True)
"""


def spoiled_store(path, spoil):
    write_result(path, make_labels() + np.uint32(1), cells=None)
    spoil(path)


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    """What became of every act on every store: (store, act) -> (outcome, words, MB)."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "out").mkdir()
    for number, (spoil, _) in enumerate(REFUSED.values()):
        spoiled_store(folder / "in" / f"{number:03d}.zarr", spoil)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(USER), folder / "in", folder / "out",
         str(LIMIT_BYTES)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = map(json.loads, done.stdout.splitlines())
    return {(int(number), act): found for number, act, *found in lines}


@pytest.mark.parametrize("what", REFUSED)
def test_a_hostile_result_is_refused_within_bounded_memory(what, acts):
    number = list(REFUSED).index(what)
    words = REFUSED[what][1]
    said = []
    for act in ("status", "export", "preview", "verify"):
        outcome, text, growth = acts[number, act]
        assert outcome != "crashed", (act, text)
        assert growth < BOUND_MB, (act, text, growth)
        said.append(text if outcome == "refused" or act == "verify" else "")
    assert words in said[3], said
    assert words in said[1] or words in said[2], said


def test_a_sound_store_is_not_refused(tmp_path):
    spoiled_store(tmp_path / "m.zarr", lambda store: None)
    export_tif(tmp_path / "m.zarr", tmp_path / "m.tif")
    found = [f.where for f in verify(tmp_path / "m.zarr", frames=0) if f.is_fault]
    # It has no journal, and a plan without a movie.
    assert found == ["position 0", str(tmp_path / "m.zarr")]


def test_a_crafted_shard_is_read_if_it_is_what_it_says(tmp_path):
    spoiled_store(tmp_path / "m.zarr", lambda s: write_chunk(s, zstd_of_zeros(FRAME_BYTES)))
    assert not open_result(tmp_path / "m.zarr").labels()[0].any()


@pytest.mark.parametrize("level", [1, 3, 19])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 10**6])
def test_the_size_of_a_zstd_frame_is_what_it_unpacks_to(level, checksum, size):
    from numcodecs.zstd import Zstd

    data = np.random.default_rng(size).integers(0, 3, size, np.uint8).tobytes()
    packed = Zstd(level=level, checksum=checksum).encode(data) if size else zstd_of_nothing()
    assert content_size(memoryview(packed)) == size
    for cut in {1, 5, len(packed) // 2, len(packed) - 1}:
        with pytest.raises(ValueError, match=r"ends early|no zstd frame|of which one"):
            content_size(memoryview(packed)[:cut])


def zstd_of_nothing():
    return b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"


# ---- names and links -------------------------------------------------------------------------

NAMES = ["../../x", "/etc/x", "..", "a\0b", "\ud800", "x" * 5000]


def everything_below(folder):
    return {p: p.stat(follow_symlinks=False).st_mtime_ns for p in folder.rglob("*")}


def test_names_inside_a_result_lead_nowhere(cli, tmp_path):
    """Names of positions, and a stored movie and model that point elsewhere."""
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    path = inside / "m.zarr"
    write_result(path, make_labels(p=len(NAMES)), position_names=tuple(NAMES))
    before = everything_below(tmp_path)
    assert cli("status", path)[0] == 0
    code, out, _ = cli("export", path, "-o", inside / "out.tif")
    assert code == 0
    cli("verify", path)
    written = set(everything_below(tmp_path)) - set(before)
    assert written == {inside / f"out_p{p:03d}.tif" for p in range(len(NAMES))}
    assert len(out.splitlines()) == len(NAMES)


@pytest.fixture(scope="module")
def segmented(movie, client, tmp_path_factory):
    """The result of a run."""
    path = tmp_path_factory.mktemp("segmented") / "m.zarr"
    segment(movie, path, client=client)
    return path


@pytest.fixture
def store(segmented, tmp_path):
    """A copy of it, with its journal, that a test may spoil."""
    shutil.copytree(segmented, tmp_path / "m.zarr")
    shutil.copy(journal_of(segmented), tmp_path / "m.journal.jsonl")
    return tmp_path / "m.zarr"


ELSEWHERE = ["/dev/zero", "/etc/passwd", "../../x", "PIPE", "a\0b", "https://example.org/m", "", 7]


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("what", ["movie", "model"])
def test_stored_paths_that_point_elsewhere_are_not_believed(what, path, store, tmp_path):
    if path == "PIPE":
        os.mkfifo(path := str(tmp_path / "pipe"))

    def change(content):
        plan = content["attributes"]["cypose_dask"]["plan"]
        plan[what]["path"] = path
        plan["model"]["kind"] = "file" if what == "model" else plan["model"]["kind"]

    edit(store / "zarr.json", change)
    (finding,) = [f for f in verify(store, frames=1) if "no TIF" not in str(f)]
    assert "no frame can be segmented again" in str(finding)


def test_a_model_that_is_a_bomb_is_refused_by_verify(store, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'went_off'}",)

    bomb = tmp_path / "bomb"
    bomb.write_bytes(pickle.dumps(Bomb(), 2))

    def change(content):
        sha256 = hashlib.sha256(bomb.read_bytes()).hexdigest()
        content["attributes"]["cypose_dask"]["plan"]["model"].update(
            kind="file", path=str(bomb), sha256=sha256
        )

    edit(store / "zarr.json", change)
    assert "code are never loaded" in " ".join(map(str, verify(store, frames=1)))
    assert not (tmp_path / "went_off").exists()


@pytest.mark.parametrize(
    "link", [f"{LABELS}/c", f"{LABELS}/c/0", f"{LABELS}/c/0/0", LABELS, "0", "0/labels"]
)
def test_nothing_is_written_through_a_link_out_of_the_store(link, tmp_path):
    store, outside = tmp_path / "in" / "m.zarr", tmp_path / "outside"
    labels = make_labels() + np.uint32(1)
    write_result(store, labels)
    shutil.move(store / link, outside)
    (store / link).symlink_to(outside)
    before = everything_below(outside)
    with pytest.raises(ResultError, match="a link out of the store"):
        write_block(store, (0, 0), {"labels": labels[:2, 0] + 1})
    assert everything_below(outside) == before


@pytest.mark.parametrize("link", ["0/status/c", "0/cells", "0"])
def test_no_status_is_written_through_a_link_out_of_the_store(link, tmp_path):
    store, outside = tmp_path / "in" / "m.zarr", tmp_path / "outside"
    write_result(store, make_labels())
    shutil.move(store / link, outside)
    (store / link).symlink_to(outside)
    before = everything_below(outside)
    with pytest.raises(ResultError, match="a link out of the store"):
        write_status(store, 0, np.zeros((5, 1), np.uint8), np.zeros((5, 1), np.uint32))
    assert everything_below(outside) == before


def test_a_store_behind_a_link_can_be_written(tmp_path):
    labels = make_labels() + np.uint32(1)
    write_result(tmp_path / "real" / "m.zarr", labels)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_block(tmp_path / "link" / "m.zarr", (0, 0), {"labels": labels[:2, 0] + 1})
    assert open_result(tmp_path / "real" / "m.zarr").labels()[0].max() == labels[0].max() + 1


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"positions": ["../x"], "channels": [0]},
        {"positions": [], "channels": [0]},
        {"positions": [0], "channels": []},
        {"positions": [9], "channels": [0]},
        {"positions": [0], "channels": [9]},
        {"positions": [0], "channels": ["../x"]},
        {"positions": 3, "channels": None},
    ],
)
def test_a_preview_of_an_absurd_plan_is_refused(plan, movie, tmp_path):
    store = tmp_path / "m.zarr"
    write_result(store, make_labels(t=2, y=64, x=64))
    save_preview(store, movie, tmp_path / "good.png")
    edit(store / "zarr.json", lambda j: j["attributes"]["cypose_dask"].update(plan=plan))
    with pytest.raises(ResultError):
        save_preview(store, movie, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_preview_with_a_movie_of_another_size_is_refused(movie, tmp_path):
    write_result(tmp_path / "m.zarr", make_labels(t=2))
    with pytest.raises(ResultError, match="has no frames that"):
        save_preview(tmp_path / "m.zarr", movie, tmp_path / "x.png")


def test_a_new_result_must_have_a_layout_that_can_be_opened(tmp_path):
    with pytest.raises(ResultError, match="frames_per_block x planes"):
        layout_of(make_labels(), frames_per_block=10**9)

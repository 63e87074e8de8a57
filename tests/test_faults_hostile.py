"""Movies whose metadata lie: nothing outside their folder is read, and memory stays bounded."""

import json
import os
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
import zarr

from cypose_dask.errors import MovieError
from cypose_dask.movies import open_movie
from helpers.nd2_writer import write_nd2
from helpers.stamps import stamped
from helpers.zarr_writer import write_ome_zarr

# A list of so many entries takes 160 MB; the larger one no machine has.
ABSURD = (2 * 10**7, 10**12)
BOUND_BYTES = 32 * 2**20
PAGES = np.arange(2 * 16 * 16, dtype=np.uint16).reshape(2, 16, 16)
OTHER_FILE = (
    '<TiffData FirstT="1" IFD="0" PlaneCount="1"><UUID FileName="{}">urn:x</UUID></TiffData>'
)


@contextmanager
def bounded_memory():
    """Fail if the code inside allocates more than opening a file may."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BOUND_BYTES


def ome_xml(size_t=2, data='<TiffData IFD="0" PlaneCount="2"/>', *, head="", uuid="", more=""):
    return (
        f'<?xml version="1.0"?>{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        f'{uuid}><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="16" SizeY="16" SizeC="1" SizeZ="1" SizeT="{size_t}"><Channel ID="Channel:0:0"/>'
        f'{data}</Pixels><AnnotationRef ID="A:0"/></Image>{more}</OME>'
    )


def write_described(path, description, pages=PAGES):
    tifffile.imwrite(path, pages, description=description, metadata=None, photometric="minisblack")
    return path


def opened_within_bounds(path, words, **options):
    with bounded_memory(), pytest.raises(MovieError, match=words):
        open_movie(path, **options)


# ---- more pixels than there are bytes -------------------------------------------------------


MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="A:0" '
    'Namespace="openmicroscopy.org/omero/dimension/modulo"><Value><Modulo><ModuloAlongT '
    'Type="phase" Start="0" End="{}" Step="1"/></Modulo></Value></XMLAnnotation>'
    "</StructuredAnnotations>"
)


@pytest.mark.parametrize("allow_damaged", [False, True])
@pytest.mark.parametrize("count", ABSURD)
@pytest.mark.parametrize("where", ["SizeT", "PlaneCount", "Modulo"])
def test_an_ome_tiff_that_counts_absurdly_many_planes_is_refused(
    tmp_path, where, count, allow_damaged
):
    xml = {
        "SizeT": ome_xml(count),
        "PlaneCount": ome_xml(2, f'<TiffData IFD="0" PlaneCount="{count}"/>'),
        "Modulo": ome_xml(2, more=MODULO.format(count)),
    }[where]
    path = write_described(tmp_path / "a.ome.tif", xml)
    opened_within_bounds(path, "the header counts", allow_damaged=allow_damaged)


@pytest.mark.parametrize("allow_damaged", [False, True])
@pytest.mark.parametrize("count", ABSURD)
def test_an_imagej_tiff_that_counts_absurdly_many_frames_is_refused(tmp_path, count, allow_damaged):
    text = f"ImageJ=1.53\nimages={count}\nframes={count}\n"
    path = write_described(tmp_path / "a.tif", text, PAGES[:1])
    opened_within_bounds(path, "counts|invalid or corrupted", allow_damaged=allow_damaged)


@pytest.mark.parametrize("count", ABSURD)
def test_a_shaped_tiff_that_counts_absurdly_many_frames_is_refused(tmp_path, count):
    text = json.dumps({"shape": [count, 16, 16]})
    path = write_described(tmp_path / "a.tif", text, PAGES[:1])
    opened_within_bounds(path, "the header counts", allow_damaged=True)


def test_a_long_acquisition_that_was_stopped_early_can_still_be_salvaged(tmp_path):
    planned = 10_000
    path = write_described(tmp_path / "a.ome.tif", ome_xml(planned))
    with pytest.raises(MovieError, match="missing"):
        open_movie(path)
    opened = open_movie(path, allow_damaged=True)
    assert len(opened.info.damaged) == planned - 2
    np.testing.assert_array_equal(opened.read_frame(1)[0], PAGES[1])


def test_an_nd2_that_counts_absurdly_many_frames_is_refused(tmp_path):
    path = tmp_path / "a.nd2"
    write_nd2(path, stamped(T=3)[:, 0, 0], axes="TCYX")
    data = path.read_bytes()
    name = "uiCount\0".encode("utf-16-le")
    assert name + (3).to_bytes(4, "little") in data
    absurd = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(data.replace(name + (3).to_bytes(4, "little"), name + absurd))
    opened_within_bounds(path, "claims|counts", allow_damaged=True)


def write_zarr(path, shape, chunks, **more):
    array = zarr.create_array(
        path, shape=(1, 16, 16), chunks=(1, 16, 16), dtype="u2", dimension_names=["t", "y", "x"]
    )
    array[...] = PAGES[:1]
    file = path / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["shape"] = list(shape)
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(chunks)
    file.write_text(json.dumps(metadata | more))
    return path


@pytest.mark.parametrize(
    ("shape", "chunks", "words"),
    [
        ((ABSURD[1], 16, 16), (1, 16, 16), "expected 1 to 10000000"),
        ((10**30, 16, 16), (1, 16, 16), "expected 1 to 10000000"),
        ((0, 16, 16), (1, 16, 16), "found 0 frames"),
        ((2, 10**6, 10**6), (1, 512, 512), "header claims frames"),
        ((2, 16, 16), (1, 10**6, 10**6), "px in a chunk"),
        ((10**6, 16, 16), (10**6, 1024, 1024), "px in a chunk"),
        ((2, 16, 16), (10**30, 16, 16), "px in a chunk"),
        ((2, 16, 16), (0, 16, 16), "px in a chunk"),
        ((2, 3000, 3000), (1, 1, 1), "9000000 for each frame"),
    ],
)
def test_a_zarr_of_absurd_sizes_or_chunks_is_refused(tmp_path, shape, chunks, words):
    opened_within_bounds(write_zarr(tmp_path / "a.zarr", shape, chunks), words)


def test_a_zarr_of_metadata_alone_is_refused_unless_allowed(tmp_path):
    zarr.create_array(
        tmp_path / "a.zarr", shape=(2, 16, 16), chunks=(1, 16, 16), dtype="u2", fill_value=7,
        dimension_names=["t", "y", "x"],
    )  # fmt: skip
    with pytest.raises(MovieError, match="not one chunk"):
        open_movie(tmp_path / "a.zarr")
    assert (open_movie(tmp_path / "a.zarr", allow_damaged=True).read_frame(1) == 7).all()


def test_a_fill_value_that_no_pixel_can_have_is_refused(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", (1, 16, 16), (1, 16, 16), fill_value=10**30)
    opened_within_bounds(path, "not a readable zarr")


# ---- other files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../elsewhere.tif", "sub/../../elsewhere.tif", "ABSOLUTE"])
@pytest.mark.parametrize("options", [{}, {"allow_damaged": True}, {"axes": "TYX"}])
def test_ome_xml_cannot_name_files_outside_of_the_folder(tmp_path, monkeypatch, name, options):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    elsewhere = write_described(tmp_path / "elsewhere.tif", "secret")
    name = str(elsewhere) if name == "ABSOLUTE" else name
    own = '<TiffData FirstT="0" IFD="0" PlaneCount="1"/>'
    path = write_described(folder / "a.ome.tif", ome_xml(2, own + OTHER_FILE.format(name)))
    opened = []
    real = tifffile.TiffFile.__init__

    def watched(self, file, *args, **kwargs):
        opened.append(os.path.realpath(file))
        return real(self, file, *args, **kwargs)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", watched)
    with pytest.raises(MovieError, match="Files elsewhere are not read"):
        open_movie(path, **options)
    assert str(elsewhere) not in opened


def test_ome_xml_cannot_name_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    path = write_described(tmp_path / "a.ome.tif", ome_xml(2, OTHER_FILE.format("pipe.tif")))
    with pytest.raises(MovieError, match="expected a regular file"):
        open_movie(path)


def test_a_set_may_lie_in_a_folder_below(tmp_path):
    (tmp_path / "rest").mkdir()
    own = '<TiffData FirstT="0" IFD="0" PlaneCount="1"/>'
    xml = ome_xml(2, own + OTHER_FILE.format("rest/b.ome.tif"))
    write_described(tmp_path / "rest" / "b.ome.tif", xml, PAGES[1:])
    path = write_described(tmp_path / "a.ome.tif", xml, PAGES[:1])
    np.testing.assert_array_equal(open_movie(path).read_frame(1)[0], PAGES[1])


def test_a_file_may_call_itself_by_the_path_it_was_written_to(tmp_path):
    data = (
        '<TiffData IFD="0" PlaneCount="2"><UUID FileName="C:\\data\\a.ome.tif">urn:me</UUID>'
        "</TiffData>"
    )
    path = write_described(tmp_path / "b.ome.tif", ome_xml(2, data, uuid=' UUID="urn:me"'))
    np.testing.assert_array_equal(open_movie(path).read_frame(1)[0], PAGES[1])


@pytest.mark.parametrize("name", ["../../secret", "/../secret", "..", "0/../../../secret"])
def test_zarr_metadata_cannot_name_arrays_outside_of_the_store(tmp_path, name):
    write_ome_zarr(tmp_path / "secret", stamped(T=2), "0.5", "TYX")
    positions = zarr.create_group(tmp_path / "in" / "positions.zarr")
    positions.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    positions.create_group("OME").attrs["ome"] = {"series": [name]}
    image = zarr.create_group(tmp_path / "in" / "image.zarr")
    axes = [{"name": letter} for letter in "tyx"]
    multiscale = {"version": "0.5", "axes": axes, "datasets": [{"path": f"{name}/0"}]}
    image.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    for store in ("positions.zarr", "image.zarr"):
        with pytest.raises(MovieError, match="is invalid because"):
            open_movie(tmp_path / "in" / store)


class _Bomb:
    """An object whose unpickling leaves a trace in the file system."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_chunks_that_are_pickles_are_never_unpickled(tmp_path, place, monkeypatch):
    import pickle

    from numcodecs import pickles

    # As releases before 0.16 of numcodecs were: without its own refusal.
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    path, trace = tmp_path / "a.zarr", tmp_path / "trace"
    array = zarr.create_array(
        path, shape=(1, 16, 16), chunks=(1, 16, 16), dtype="u2", zarr_format=2
    )
    array[...] = PAGES[:1]
    metadata = json.loads((path / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    metadata |= {"compressor": None, "filters": None, place: codec}
    if place == "filters":
        metadata["filters"] = [codec]
    (path / ".zarray").write_text(json.dumps(metadata))
    (path / "0.0.0").write_bytes(pickle.dumps(_Bomb(trace)))
    with pytest.raises(MovieError, match="pickle"):
        open_movie(path, axes="TYX").read_frame(0)
    assert not trace.exists()


# ---- XML ------------------------------------------------------------------------------------


def test_entities_in_ome_xml_are_refused_before_they_expand(tmp_path):
    tens = "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefg", "bcdefgh", strict=1)
    )
    bomb = f'<!DOCTYPE OME [<!ENTITY a "{"x" * 100}">{tens}]>'
    xml = ome_xml(2, head=bomb, more="<Description>&h;</Description>")
    path = write_described(tmp_path / "a.ome.tif", xml)
    opened_within_bounds(path, "document type or entities", allow_damaged=True)


def test_entities_in_ome_xml_do_not_read_files(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    head = f'<!DOCTYPE OME [<!ENTITY a SYSTEM "file://{tmp_path}/secret.txt">]>'
    path = write_described(tmp_path / "a.ome.tif", ome_xml(2, head=head))
    with pytest.raises(MovieError, match="document type or entities") as failure:
        open_movie(path)
    assert "secret" not in str(failure.value).replace("secret.txt", "")

"""Flows and probabilities of a run with debug, as TIFs."""

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import IncompleteResultError, ResultError
from cypose_dask.results import Status, export_debug_tifs
from helpers.results import make_flows, make_labels, write_result

DONE, FAILED, PENDING = Status.DONE, Status.FAILED, Status.PENDING


@pytest.mark.parametrize(
    ("t", "z", "flow_axes", "prob_axes"),
    [(3, 1, "TCYX", "TYX"), (3, 2, "TZCYX", "TZYX"), (1, 1, "CYX", "YX")],
)
def test_flows_and_probabilities_equal_the_zarr(tmp_path, t, z, flow_axes, prob_axes):
    labels = make_labels(t=t, z=z)
    result = write_result(tmp_path / "m.zarr", labels, debug=True)
    flow, prob = export_debug_tifs(result, tmp_path / "x.tif")
    assert [flow.name, prob.name] == ["x.tif.flow.tif", "x.tif.prob.tif"]
    made = make_flows(labels)
    flows, probs = tifffile.imread(flow), tifffile.imread(prob)
    assert flows.dtype == probs.dtype == np.float32
    assert np.array_equal(flows, made["flows"][:, 0].squeeze())
    logits = made["cellprob"][:, 0].squeeze().astype(np.float64)
    assert np.allclose(probs, 1 / (1 + np.exp(-logits)), atol=1e-6)
    for path, axes in ((flow, flow_axes), (prob, prob_axes)):
        with tifffile.TiffFile(path) as tif:
            assert tif.series[0].axes == axes


def test_extreme_logits_become_0_and_1_without_warnings(tmp_path, recwarn):
    from cypose_dask.results.writing import write_block

    labels = make_labels(t=2)
    result = write_result(tmp_path / "m.zarr", labels, debug=True)
    logits = np.full((2, 1, 12, 16), -1e30, np.float32)
    logits[1] = 1e30
    write_block(result.path, (0, 0), {"labels": labels[:, 0], "cellprob": logits})
    _, prob = export_debug_tifs(result, tmp_path / "x.tif")
    assert [set(page.ravel()) for page in tifffile.imread(prob)] == [{0.0}, {1.0}]
    assert [str(w.message) for w in recwarn] == []


def test_frames_without_labels_have_no_flows_and_no_probability(tmp_path):
    status = np.array([[DONE], [FAILED], [PENDING]], np.uint8)
    result = write_result(tmp_path / "m.zarr", make_labels(t=3), debug=True, status=status)
    with pytest.raises(IncompleteResultError, match="2 frames"):
        export_debug_tifs(result, tmp_path / "x.tif")
    for path in export_debug_tifs(result, tmp_path / "x.tif", allow_incomplete=True):
        pages = tifffile.imread(path)
        assert pages[0].any()
        assert not pages[1:].any()


def test_flows_of_positions_are_files_of_their_own(tmp_path):
    labels = make_labels(t=2, p=2)
    result = write_result(tmp_path / "m.zarr", labels, debug=True)
    made = export_debug_tifs(result, tmp_path / "x.tif")
    names = [f"x_p00{p}.tif.{kind}.tif" for p in (0, 1) for kind in ("flow", "prob")]
    assert [path.name for path in made] == names
    for p in (0, 1):
        flows = make_flows(labels)["flows"][:, p, 0]
        assert np.array_equal(tifffile.imread(made[2 * p]), flows)


def test_flows_of_a_run_without_debug_are_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    with pytest.raises(ResultError, match="only with debug"):
        export_debug_tifs(result, tmp_path / "x.tif")

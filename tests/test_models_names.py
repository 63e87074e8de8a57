"""Cellpose's own names: our tables are its tables, and a cached file is found as it finds it."""

import ssl
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from cypose_dask.errors import ModelError, ModelNotFoundError
from cypose_dask.models import builtin, list_models, resolve_model, resolve_restoration
from helpers.weights import write_weights


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder in the place of Cellpose's model cache, and no internet."""
    from cellpose import models, utils

    def unreachable(url):
        raise URLError("no internet in tests")

    folder = tmp_path / "cache"
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(folder))
    monkeypatch.setattr(models, "MODEL_DIR", folder)
    monkeypatch.setattr(utils, "urlopen", unreachable)
    return folder


def test_segmentation_names_are_cellposes():
    from cellpose.models import MODEL_NAMES

    assert tuple(dict.fromkeys(MODEL_NAMES)) == builtin.BUILTIN


def test_restoration_names_are_cellposes():
    from cellpose.denoise import MODEL_NAMES

    assert len(set(builtin.RESTORATION)) == len(builtin.RESTORATION)
    assert set(builtin.RESTORATION) == set(MODEL_NAMES)


def test_file_names_are_cellposes(monkeypatch):
    from cellpose import models

    monkeypatch.setattr(models, "cache_model_path", lambda file: file)
    for name in builtin.BUILTIN:
        assert builtin._FILES.get(name, name) == models.model_path(name)
    for name, file in builtin._SIZE_FILES.items():
        assert file == models.size_model_path(name)


def test_the_model_folder_is_cellposes(monkeypatch):
    from cellpose import models

    assert builtin.model_folder() == models.MODEL_DIR
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", "")
    assert builtin.model_folder() == models._MODEL_DIR_DEFAULT


@pytest.mark.parametrize(
    ("name", "diameters"),
    [("cyto3", (25.0, 12.0)), ("nuclei", (25.0, 12.0)), ("nuclei", None), ("CPx", None)],
)
def test_a_builtin_has_cellposes_diameters(cache, name, diameters):
    from cellpose.models import CellposeModel

    write_weights(cache / builtin._FILES.get(name, name), diameters=diameters)
    spec, theirs = resolve_model(name), CellposeModel(model_type=name)
    assert (spec.kind, spec.name, spec.network_inputs) == ("built-in", name, 2)
    assert spec.diam_mean == theirs.diam_mean == (17.0 if name == "nuclei" else 30.0)
    assert spec.diameter == pytest.approx(theirs.diam_labels)


@pytest.mark.parametrize("name", ["nucleitorch_0", "my_nucleitorch_0", "mine"])
def test_a_path_has_cellposes_diameters(tmp_path, name):
    from cellpose.models import CellposeModel

    path = write_weights(tmp_path / name, diameters=(25.0, 12.0))
    spec, theirs = resolve_model(path), CellposeModel(pretrained_model=str(path))
    assert spec.kind == "file"
    assert spec.diam_mean == theirs.diam_mean
    assert spec.diameter == theirs.diam_labels


@pytest.mark.parametrize("name", builtin.FORGOTTEN)
def test_names_of_cellpose_2_are_found_with_the_files_own_diameter(cache, name):
    write_weights(cache / name, diameters=(25.0, 12.0))
    assert resolve_model(name).diam_mean == 25.0
    assert resolve_model(name).kind == "built-in"


@pytest.mark.parametrize(("name", "diam_mean"), [("denoise_cyto3", 30), ("deblur_nuclei", 17)])
def test_a_restoration_network_has_cellposes_diameter(cache, name, diam_mean):
    from cellpose.denoise import DenoiseModel

    write_weights(cache / name, inputs=1, outputs=1, diameters=(25.0, 12.0))
    spec, theirs = resolve_restoration(name), DenoiseModel(model_type=name)
    assert spec.diam_mean == theirs.diam_mean == diam_mean
    assert spec.network_inputs == 1


@pytest.mark.parametrize(("name", "file"), [("cyto2", "cyto2torch_0"), ("livecell", "livecell")])
def test_an_absent_builtin_names_its_file_and_folder(cache, name, file):
    with pytest.raises(ModelNotFoundError) as raised:
        resolve_model(name)
    assert repr(file) in str(raised.value)
    assert str(cache) in str(raised.value)
    assert "CELLPOSE_LOCAL_MODELS_PATH" in str(raised.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("error", [URLError("x"), HTTPError("u", 404, "x", {}, None), OSError(28)])
def test_verified_tls_is_restored_after_a_failed_download(cache, monkeypatch, error):
    from cellpose import utils

    seen = []

    def fail(url):
        seen.append(ssl._create_default_https_context)
        raise error

    def verified():
        """Stand for Python's own context."""

    monkeypatch.setattr(utils, "urlopen", fail)
    monkeypatch.setattr(ssl, "_create_default_https_context", verified)
    with pytest.raises(ModelNotFoundError, match="could not be downloaded"):
        resolve_model("cyto3")
    assert seen == [ssl._create_unverified_context]
    assert ssl._create_default_https_context is verified


def test_a_download_lands_in_cellposes_folder_and_is_probed(cache, tmp_path, monkeypatch):
    from cellpose import utils

    source = write_weights(tmp_path / "served")
    asked = []

    class Answer:
        def __init__(self, url):
            asked.append(url)
            self.read = source.open("rb").read

        def info(self):
            return self

        def get_all(self, name):
            return None

    monkeypatch.setattr(utils, "urlopen", Answer)
    assert resolve_model("cyto3").path == str((cache / "cyto3").resolve())
    assert resolve_model("cyto3").sha256 == resolve_model(source).sha256
    assert asked == ["https://www.cellpose.org/models/cyto3"]


def test_a_broken_download_says_to_delete_it(cache):
    path = write_weights(cache / "cyto3")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=f"damaged or incomplete.*Delete {path} to have it"):
        resolve_model("cyto3")


def test_models_that_are_here_are_listed_as_here(cache):
    assert not builtin.is_cached("cyto")
    write_weights(cache / "cytotorch_0")
    assert builtin.is_cached("cyto")


def test_the_list_has_every_name_once():
    names = list_models()
    assert len(set(names)) == len(names)
    assert set(builtin.BUILTIN) | set(builtin.FORGOTTEN) <= set(names)


@pytest.mark.parametrize("name", ["upsample_cyto3", "upsample_seg_nuclei"])
def test_upsampling_is_refused_before_any_download(cache, name):
    with pytest.raises(ModelError, match="enlarges frames"):
        resolve_restoration(name)


def test_the_word_in_a_path_that_makes_cellpose_enlarge_frames_is_refused(tmp_path):
    path = write_weights(tmp_path / "upsample_tests" / "mine", inputs=1, outputs=1)
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(ModelError, match="enlarges frames"):
            resolve_restoration(name)

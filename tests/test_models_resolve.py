"""A name or a path becomes one model or an error, never another model."""

import hashlib
from pathlib import Path

import pytest

from cypose_dask.errors import ModelError, ModelNotFoundError
from cypose_dask.models import list_models, registry, resolve_model, resolve_restoration
from cypose_dask.models.resolve import user_names
from helpers.weights import write_weights


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder in the place of Cellpose's model cache."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(folder))
    return folder


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    """A folder in the place of the bundled models, with one model and its registry."""
    folder = tmp_path / "bundled"
    path = write_weights(folder / "rods", inputs=1, diameters=(18.0, 15.0))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_registry(folder, file="rods", sha256=digest)
    monkeypatch.setattr(registry, "registry_folder", lambda: folder)
    registry._registry.cache_clear()
    yield folder
    registry._registry.cache_clear()


def write_registry(folder: Path, **entry: str) -> None:
    lines = [f'{key} = "{value}"' for key, value in entry.items()]
    text = "\n".join(['default = "rods"', "[models.rods]", *lines, 'wants = [["bf", "phase"]]'])
    (folder / "registry.toml").write_text(text + "\n")
    registry._registry.cache_clear()


# ---- bundled -------------------------------------------------------------------------------


def test_the_bundled_default_is_what_cellpose_loads_from_its_path():
    from cellpose.models import CellposeModel

    spec = resolve_model()
    theirs = CellposeModel(pretrained_model=spec.path, nchan=spec.network_inputs)
    assert spec.kind == "bundled"
    assert spec.diam_mean == theirs.diam_mean
    assert spec.diameter == theirs.diam_labels
    assert spec.name == list_models()[0]


def test_every_bundled_model_is_whole():
    for name in registry.bundled_names():
        spec, entry = resolve_model(name), registry.bundled_entry(name)
        assert (
            spec.sha256
            == entry["sha256"]
            == hashlib.sha256(Path(spec.path).read_bytes()).hexdigest()
        )
        assert len(spec.wants) == entry["inputs"] <= spec.network_inputs
        assert spec.diameter == pytest.approx(entry["diameter"], rel=0.1)


def test_default_is_the_registrys_default(bundle):
    assert resolve_model() == resolve_model("default") == resolve_model("rods")
    assert resolve_model().wants == (("bf", "phase"),)


def test_a_bundled_file_of_another_hash_is_refused(bundle):
    write_weights(bundle / "rods", inputs=1, seed=5)
    with pytest.raises(ModelError, match=r"SHA-256 is .*, the registry says"):
        resolve_model()


def test_a_damaged_bundled_file_is_refused_by_its_hash(bundle):
    (bundle / "rods").write_bytes(b"")
    with pytest.raises(ModelError, match=r"SHA-256 is .* install the package again"):
        resolve_model()


@pytest.mark.parametrize("file", ["../weights", "/etc/passwd", "..", "sub/rods", ""])
def test_an_entry_that_leads_out_of_the_registrys_folder_is_refused(bundle, file):
    write_weights(bundle.parent / "weights")
    write_registry(bundle, file=file, sha256="0")
    with pytest.raises(ModelError, match=r"points outside|missing"):
        resolve_model()


def test_a_bundled_file_may_be_a_link(bundle):
    # Some installers link every file of a package into a cache that they share.
    shared = bundle.parent / "installers_cache"
    (bundle / "rods").rename(shared)
    (bundle / "rods").symlink_to(shared)
    assert resolve_model().network_inputs == 1


def test_a_missing_bundled_file_says_to_install_again(bundle):
    (bundle / "rods").unlink()
    with pytest.raises(ModelError, match="missing although the registry names it"):
        resolve_model()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default = 3",
        'default = "x"\n[models.rods]\n',
        "[[",
        'default = "rods"\n[models.rods]\n',
    ],
)
def test_a_damaged_registry_says_to_install_again(bundle, text):
    (bundle / "registry.toml").write_text(text)
    registry._registry.cache_clear()
    with pytest.raises(ModelError, match=r"registry\.toml: damaged .*Install the package again"):
        resolve_model()


# ---- paths ---------------------------------------------------------------------------------


def test_a_path_is_resolved_hashed_and_probed(tmp_path, monkeypatch):
    path = write_weights(tmp_path / "mine", inputs=1, diameters=(18.0, 15.0))
    monkeypatch.chdir(tmp_path)
    spec = resolve_model("./mine")
    assert spec == resolve_model(path)
    assert (spec.kind, spec.path) == ("file", str(path.resolve()))
    assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (spec.network_inputs, spec.diam_mean, spec.diameter) == (1, 18.0, 15.0)


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    write_weights(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/mine").path == str((tmp_path / "mine").resolve())


def test_a_file_never_takes_a_known_name(tmp_path, bundle, monkeypatch):
    write_weights(tmp_path / "rods", seed=9)
    monkeypatch.chdir(tmp_path)
    assert resolve_model("rods").kind == "bundled"
    assert resolve_model("./rods").kind == "file"


def test_a_mistyped_path_names_files_with_near_names(tmp_path):
    write_weights(tmp_path / "weights_v2.pt")
    with pytest.raises(ModelNotFoundError) as raised:
        resolve_model(tmp_path / "Weights_v3.pt")
    assert f"Files with a near name: {tmp_path / 'weights_v2.pt'}." in str(raised.value)


def test_a_mistyped_name_also_looks_at_files_here(tmp_path, monkeypatch):
    write_weights(tmp_path / "weights_v2.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"near name: weights_v2\.pt"):
        resolve_model("weights_v1.pt")


def test_a_folder_is_called_a_folder(tmp_path):
    with pytest.raises(ModelNotFoundError, match="it is a folder, not a file"):
        resolve_model(tmp_path)


@pytest.mark.parametrize("resolve", [resolve_model, resolve_restoration])
@pytest.mark.parametrize(
    "name",
    ["", "nothing\0", "x" * 5000, "~nobody_has_this_name/x", "/no/such/folder/x", "*?[", None],
)
def test_odd_names_are_not_found_and_nothing_worse(resolve, name):
    with pytest.raises(ModelNotFoundError, match="is called"):
        resolve(name)


def test_an_unreadable_file_is_a_model_error(tmp_path, monkeypatch):
    from cypose_dask.models import resolve

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    path = write_weights(tmp_path / "mine")
    monkeypatch.setattr(resolve, "file_sha256", refuse)
    with pytest.raises(ModelError, match=r"mine: cannot be read \(Permission denied"):
        resolve_model(path)


# ---- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [("cyto33", "cyto3"), ("CYTO3", "cyto3"), ("bact_fase_cp3", "bact_phase_cp3"),
     ("some/where/nucleii", "nuclei")],
)  # fmt: skip
def test_a_mistyped_name_names_near_ones(name, near):
    with pytest.raises(ModelNotFoundError, match=rf"Did you mean .*\b{near}\b"):
        resolve_model(name)


def test_a_restoration_name_as_a_model_says_which_option_takes_it():
    with pytest.raises(ModelNotFoundError, match="restoration network: use --denoise"):
        resolve_model("denoise_cyto3")


def test_a_model_name_as_a_restoration_says_which_option_takes_it():
    with pytest.raises(ModelNotFoundError, match="segmentation model: use --model"):
        resolve_restoration("cyto3")


def test_a_mistyped_restoration_names_near_ones():
    with pytest.raises(ModelNotFoundError, match=r"Did you mean .*denoise_cyto3"):
        resolve_restoration("denoise_cito3")


# ---- names of the user ---------------------------------------------------------------------


def test_names_of_cellposes_gui_are_found(cache):
    write_weights(cache / "my model", inputs=1)
    (cache / "gui_models.txt").write_text("my model\n\n  my model  \nother\n")
    assert user_names() == ("my model", "other")
    assert resolve_model("my model").kind == "user"
    assert list_models()[-2:] == ("my model", "other")


def test_a_listed_name_without_its_file_says_where_it_should_be(cache):
    (cache / "gui_models.txt").write_text("gone\n")
    with pytest.raises(ModelNotFoundError, match=str(cache / "gone")):
        resolve_model("gone")


@pytest.mark.parametrize("name", ["../secret", "../cache/../secret", "..", "x/../../secret"])
def test_a_listed_name_that_leads_out_of_the_folder_is_refused(cache, name, monkeypatch):
    write_weights(cache.parent / "secret")
    (cache / "sub").mkdir()
    monkeypatch.chdir(cache / "sub")  # where these names are no paths
    (cache / "gui_models.txt").write_text(f"{name}\n")
    assert user_names() == ()
    with pytest.raises(ModelError, match=r"gui_models\.txt lists .* refused"):
        resolve_model(name)


def test_an_unreadable_list_of_the_user_stops_nothing(cache):
    (cache / "gui_models.txt").write_bytes(b"good\n\xff\xfe\x00bad\n")
    assert "good" in user_names()
    assert resolve_model().kind == "bundled"


# ---- the specification ---------------------------------------------------------------------


def test_a_spec_is_json_and_hashes(tmp_path):
    import json

    spec = resolve_model(write_weights(tmp_path / "mine"))
    assert json.loads(json.dumps(spec.to_dict()))["sha256"] == spec.sha256
    assert len({spec, resolve_model(tmp_path / "mine")}) == 1


# ---- what was found is remembered -----------------------------------------------------------


def test_a_file_is_looked_into_once(tmp_path, monkeypatch):
    from cypose_dask.models import probed

    monkeypatch.setenv("CYPOSE_CACHE", str(tmp_path / "cache"))
    path = write_weights(tmp_path / "mine")
    first = resolve_model(path)
    monkeypatch.setattr(probed, "probe_weights", None)
    assert resolve_model(path) == first


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"network_inputs": 2, "more": 1}'])
def test_a_damaged_memory_is_made_again(content, tmp_path, monkeypatch):
    monkeypatch.setenv("CYPOSE_CACHE", str(tmp_path / "cache"))
    path = write_weights(tmp_path / "mine")
    first = resolve_model(path)
    (memory,) = (tmp_path / "cache" / "probes").iterdir()
    memory.write_text(content)
    assert resolve_model(path) == first
    assert memory.read_text() != content


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, where a folder is expected")
    monkeypatch.setenv("CYPOSE_CACHE", str(tmp_path / "cache"))
    assert resolve_model(write_weights(tmp_path / "mine")).network_inputs == 2

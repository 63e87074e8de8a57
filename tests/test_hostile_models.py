"""Model files and registries made to do harm: refused, nothing in them runs, memory is bounded."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
import textwrap
import zipfile

import numpy as np
import pytest

from cypose_dask.errors import ModelError
from cypose_dask.models import registry, resolve_model, resolve_restoration
from cypose_dask.models.pickled import read_pickled_npy
from cypose_dask.models.probe import probe_weights
from helpers.weights import network_state, write_weights


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, sentinel):
        self.command = f"touch {sentinel}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def sentinel(tmp_path):
    """A path at which a file appears if a bomb goes off."""
    return tmp_path / "went_off"


def in_zip(path, bomb):
    write_weights(path, {**network_state(), "bomb": bomb})


def in_older_torch_format(path, bomb):
    import torch

    state = {**network_state(), "bomb": bomb}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def in_oldest_torch_format(path, bomb):
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(bomb, 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def as_pickle(protocol):
    return lambda path, bomb: path.write_bytes(pickle.dumps(bomb, protocol))


def as_first_pickle_of_the_older_format(path, bomb):
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(bomb, 2))


def as_whole_zip_pickle(path, bomb):
    write_weights(path, bomb)


def in_key_of_zip(path, bomb):
    write_weights(path, {bomb: 1})


WAYS = {
    "in a zip": in_zip,
    "as the whole of a zip": as_whole_zip_pickle,
    "in torch's older format": in_older_torch_format,
    "in torch's oldest format": in_oldest_torch_format,
    "behind the magic number": as_first_pickle_of_the_older_format,
    "as a key": in_key_of_zip,
    **{f"as a pickle of protocol {n}": as_pickle(n) for n in range(6)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("resolve", [resolve_model, resolve_restoration, probe_weights])
def test_a_command_in_a_model_file_does_not_run(way, resolve, sentinel, tmp_path):
    path = tmp_path / "model"
    WAYS[way](path, Bomb(sentinel))
    with pytest.raises(ModelError):
        resolve(path)
    assert not sentinel.exists()


def test_the_bombs_are_armed(sentinel):
    pickle.loads(pickle.dumps(Bomb(sentinel)))
    assert sentinel.exists()


@pytest.mark.parametrize("way", ["in a zip", "as a pickle of protocol 2"])
def test_the_command_line_refuses_it_too(way, cli, sentinel, nd2_path, tmp_path):
    WAYS[way](tmp_path / "model", Bomb(sentinel))
    code, _, err = cli("segment", nd2_path, "--model", tmp_path / "model", "-o", tmp_path / "x.tif")
    assert code == 2
    assert "code are never loaded" in err
    code, _, _ = cli("models", tmp_path / "model")
    assert code == 2
    assert not sentinel.exists()


def npy(content):
    header = io.BytesIO()
    fields = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue() + content


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("nested", [False, True])
def test_a_command_in_a_size_model_does_not_run(protocol, nested, sentinel, tmp_path):
    bomb = Bomb(sentinel)
    content = {"smean": bomb, "A": np.ones(3)} if nested else bomb
    path = tmp_path / "size_model.npy"
    path.write_bytes(npy(pickle.dumps(content, protocol)))
    with pytest.raises(pickle.UnpicklingError, match=r"it names (posix|os|nt)\.system"):
        read_pickled_npy(path)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"cnumpy\ndtype.__reduce__\n(tR.",
        b"c_io\nopen\n(S'x'\nS'w'\ntR.",
        b"cpathlib\nPath.home\n(tR.",
    ],
)
def test_only_numbers_and_paths_are_made_from_a_size_model(call, tmp_path):
    path = tmp_path / "size_model.npy"
    path.write_bytes(npy(call))
    with pytest.raises(pickle.UnpicklingError):
        read_pickled_npy(path)


# ---- memory --------------------------------------------------------------------------------


def peak_growth_mb(path):
    """Probe a file in a process of its own: what it said, and by how many MB its peak grew."""
    script = """
        import re, sys
        from pathlib import Path
        import cellpose.resnet_torch, torch
        from cypose_dask.errors import ModelError
        from cypose_dask.models import probe
        probe._unet_shapes(2, 3)
        def peak():
            status = Path("/proc/self/status").read_text()
            return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024
        before = peak()
        try:
            probe.probe_weights(Path(sys.argv[1]))
        except ModelError as error:
            print(str(error).replace("\\n", " "))
        else:
            print("accepted")
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, growth = done.stdout.splitlines()
    return said, int(growth)


def deflated(path, extra_bytes):
    """Write a network whose archive holds one tensor of zeros more, packed to nearly nothing."""
    import torch

    state = {**network_state(), "more": torch.zeros(extra_bytes, dtype=torch.uint8)}
    write_weights(path.with_name("plain"), state)
    with (
        zipfile.ZipFile(path.with_name("plain")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    path.with_name("plain").unlink()


@pytest.mark.slow
def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "model"
    deflated(path, 600 * 2**20)
    assert path.stat().st_size < 4 * 2**20
    said, growth = peak_growth_mb(path)
    assert "a packed archive, which PyTorch does not write" in said
    assert growth < 100


def test_parts_that_share_their_bytes_are_refused(tmp_path):
    path = write_weights(tmp_path / "model")
    # The second entry of the directory becomes one of a part as long as the whole file.
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 20 : at + 28] = len(content).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(ModelError, match="packed archive"):
        probe_weights(path)


# ---- registries ----------------------------------------------------------------------------

POINTERS = [
    "../../secret", "/etc/passwd", "https://example.org/model", "file:///etc/passwd", "..", ".",
    "a/../../b", "//host/share/model", "sub/model", "", "~/model",
]  # fmt: skip


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A registry of bundled models that a test writes: a function of the entry's file."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr(registry, "registry_folder", lambda: folder)

    def write(file, sha256="0" * 64):
        (folder / "registry.toml").write_text(
            f'default = "mine"\n[models.mine]\nfile = "{file}"\nsha256 = "{sha256}"\n'
        )
        registry._registry.cache_clear()
        return folder

    yield write
    registry._registry.cache_clear()


@pytest.mark.parametrize("file", POINTERS)
def test_a_registry_that_points_elsewhere_is_refused(file, bundle, tmp_path, monkeypatch):
    secret = write_weights(tmp_path / "secret")
    monkeypatch.setattr("cypose_dask.models.resolve.file_sha256", pytest.fail)
    bundle(file)
    with pytest.raises(ModelError, match="points outside"):
        resolve_model("mine")
    assert secret.exists()


def test_a_link_out_of_the_registry_serves_only_the_file_that_it_hashes(bundle, tmp_path):
    other = write_weights(tmp_path / "other")
    folder = bundle("mine")
    (folder / "mine").symlink_to(other)
    with pytest.raises(ModelError, match=r"SHA-256 is .*, the registry says"):
        resolve_model("mine")


@pytest.mark.parametrize("file", POINTERS)
def test_a_registry_beside_weights_cannot_point_elsewhere(file, tmp_path, monkeypatch):
    secret = write_weights(tmp_path / "secret", seed=1)
    mine = write_weights(tmp_path / "deep" / "er" / "mine")
    text = f'[models.mine]\nfile = "{file}"\nsha256 = "{"0" * 64}"\n'
    (mine.parent / "registry.toml").write_text(text)
    with pytest.raises(ModelError, match="points to"):
        resolve_model(mine)
    assert secret.exists()


def test_a_registry_beside_weights_is_not_believed_about_their_size(tmp_path):
    mine = write_weights(tmp_path / "mine")
    spec = resolve_model(mine)
    (tmp_path / "registry.toml").write_text(
        f'[models.mine]\nfile = "mine"\nsha256 = "{spec.sha256}"\ninputs = 9\ndiameter = 1e9\n'
        'kind = "bundled"\npath = "/etc/passwd"\n'
    )
    assert resolve_model(mine) == spec


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "https://example.org/m", "/nowhere/x"])
def test_cellposes_list_of_models_cannot_point_elsewhere(
    name, tmp_path, tmp_path_factory, monkeypatch
):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "gui_models.txt").write_text(f"{name}\n")
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(folder))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(ModelError, match="leads out of its folder"):
        resolve_model(name)


def test_pipes_and_devices_are_no_models(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelError, match="no such file"):
            resolve_model(path)

"""The wheel carries the bundled models, whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
import zipfile

from conftest import ROOT


def test_the_wheel_carries_every_bundled_model(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        registry = tomllib.loads(archive.read("cypose_dask/models/bundled/registry.toml").decode())
        for name, entry in registry["models"].items():
            weights = archive.read(f"cypose_dask/models/bundled/{entry['file']}")
            assert hashlib.sha256(weights).hexdigest() == entry["sha256"], name
        names = archive.namelist()
    assert not [name for name in names if name.startswith(("tests", "scripts", "demo"))]
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert "cypose_dask/viewer/napari.yaml" in names

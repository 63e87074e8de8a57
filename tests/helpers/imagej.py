"""ImageJ itself, asked by a macro what it sees in a file; tests skip where it is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

IJ_JAR = Path("/usr/share/java/ij.jar")

_MACRO = """
virtual = {virtual};
if (virtual) run("TIFF Virtual Stack...", "open=[{tif}]");
else open("{tif}");
getDimensions(width, height, channels, slices, frames);
getVoxelSize(voxelWidth, voxelHeight, voxelDepth, unit);
text = "width=" + width + "\\nheight=" + height + "\\nchannels=" + channels;
text = text + "\\nslices=" + slices + "\\nframes=" + frames + "\\nbits=" + bitDepth();
text = text + "\\nunit=" + unit + "\\npixel=" + d2s(voxelWidth, 6);
text = text + "\\ndepth=" + d2s(voxelDepth, 6);
text = text + "\\ninterval=" + d2s(Stack.getFrameInterval(), 3);
for (i = 1; i <= nSlices; i++) {{
    if ({every} == 1 || i == nSlices) {{
        setSlice(i);
        getStatistics(area, mean, min, max);
        text = text + "\\npage" + i + "=" + min + " " + d2s(mean, 4) + " " + max;
    }}
}}
File.saveString(text + "\\n", "{out}");
"""


def look_in_imagej(tif: Path, folder: Path, *, virtual: bool = False) -> dict[str, str]:
    """Open a TIF in ImageJ; return what it says of its axes, scale and pages."""
    if not IJ_JAR.is_file() or not shutil.which("java") or not shutil.which("xvfb-run"):
        pytest.skip("ImageJ is not on this machine (Debian's imagej and xvfb)")
    macro, out = folder / "look.ijm", folder / "seen.txt"
    macro.write_text(
        _MACRO.format(tif=tif, out=out, virtual=int(virtual), every=0 if virtual else 1)
    )
    call = ["xvfb-run", "-a", "java", "-cp", str(IJ_JAR), "ij.ImageJ", "-batch", str(macro)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=240)
    assert out.is_file(), done.stdout + done.stderr
    return dict(line.split("=", 1) for line in out.read_text().splitlines())

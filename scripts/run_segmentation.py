#!/usr/bin/env python
"""CyPose's own command line, on cypose_dask.

Same flags as CyPose's run_segmentation.py, and as there the first channel is segmented, or the
first two when the model's name says "2ch"; the project's own models find their channel by name.
Differences: a model that does not exist is an error instead of another model, --gpu without a GPU
is an error, the size is the model's own unless given, and --debug writes the flow field itself
(dy, dx) instead of its picture, and probabilities between 0 and 1 instead of logits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path


def parse(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse CyPose's flags; every spelling on CyPose's pages works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    boolean = argparse.BooleanOptionalAction
    parser.add_argument("--input_file", required=True, help="ND2 or TIF movie")
    parser.add_argument("--output_file", required=True, help="TIF with labels, 0 = background")
    parser.add_argument("--model", default="default", help="name or path of a Cellpose model")
    parser.add_argument("--gpu", action=boolean, default=False, help="demand CUDA or MPS")
    parser.add_argument("--start_frame", type=int, default=0, help="first frame, 0-based")
    parser.add_argument("--end_frame", type=int, help="frame after the last")
    parser.add_argument(
        "--debug", action=boolean, default=False, help="also flows and probabilities"
    )
    parser.add_argument("--denoise", action=boolean, default=False, help="run denoise_cyto3 first")
    parser.add_argument("--niter", type=float, help="steps of the flow dynamics")
    parser.add_argument(
        "--size", type=float, help="cell diameter in px, 0 estimates; default: the model's own"
    )
    parser.add_argument(
        "--flow_threshold", "-flow_threshold", type=float, default=0.75, help="default 0.75"
    )
    return parser.parse_args(args)


def channels_of(model: str) -> tuple[int, ...] | None:
    """Return CyPose's channels for a model; None lets a bundled model find its own by name."""
    from cypose_dask.models.registry import bundled_names

    if model in ("default", *bundled_names()):
        return None
    return (0, 1) if "2ch" in Path(model).name else (0,)


def main(args: Sequence[str] | None = None) -> int:
    """Segment one movie and return the exit code."""
    given = parse(args)
    from cypose_dask.cli.options import quiet_libraries
    from cypose_dask.cli.outcomes import summarise
    from cypose_dask.cli.progress import make_reporter, watcher_of
    from cypose_dask.cli.stopping import stop_requests
    from cypose_dask.results import tif_name
    from cypose_dask.run import Job, connect, find_movies, segment_files
    from cypose_dask.settings import DEFAULT_RESTORATION, RunOptions, Settings

    quiet_libraries()
    reporter = make_reporter("auto", 1)
    job = Job(
        settings=Settings(
            model=given.model,
            channels=channels_of(given.model),
            diameter="model" if given.size is None else given.size or "estimate",
            niter=given.niter,
            flow_threshold=given.flow_threshold,
            denoise=DEFAULT_RESTORATION if given.denoise else None,
            start_frame=given.start_frame,
            end_frame=given.end_frame,
            gpu=given.gpu,
        ),
        options=RunOptions(debug=given.debug),
        watcher=watcher_of(reporter),
        debug_base=lambda names: Path(given.output_file),
    )
    movies = find_movies([given.input_file])
    with closing(reporter), stop_requests(job.stop), connect(gpu=given.gpu) as client:
        outcomes = segment_files(movies, tif_name(given.output_file), client=client, job=job)
    return summarise(outcomes)


if __name__ == "__main__":
    from cypose_dask.cli import run_and_exit

    run_and_exit(lambda: main(sys.argv[1:]))

"""The parts of `scripts/benchmark.py`: each yields the lines of one table."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cellpose_runs, gemm, our_runs
from benchmarks.clock import Contender, alternate, equal_shares, rows
from benchmarks.workload import Workload, workload
from cypose_dask import Settings
from cypose_dask.engine import load_networks, tiles_of, usable_cores
from cypose_dask.engine.dynamics import labels_from_flows
from cypose_dask.engine.reference import follow_and_label
from cypose_dask.engine.segment import segment_frame
from cypose_dask.engine.settle import settle_engine, settle_numbers
from cypose_dask.engine.tiles import tiling_of
from cypose_dask.models import resolve_model
from cypose_dask.run import connect

__all__ = [
    "Bench", "against_cellpose", "against_the_command_line", "dynamics_alone", "empty_space",
    "stages", "start", "usable_cores",
]  # fmt: skip

COMMAND_FRAMES = 20


class Bench:
    """One frame size: its frames, the model and the settings that every contender is given."""

    def __init__(
        self, side: int, *, model: str, niter: int | None, rounds: int, n_frames: int, folder: Path
    ) -> None:
        self.workload: Workload = workload(side, folder)
        self.folder = folder / f"{side}"
        self.spec = resolve_model(model)
        # The network's own working diameter: frames are not rescaled, as in the reference tables.
        self.diameter = self.spec.diam_mean
        self.niter, self.rounds, self.n_frames = niter, rounds, n_frames
        self.frames = self.workload.repeated(n_frames)

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of `eval`."""
        return {"diameter": self.diameter, "niter": self.niter}

    @property
    def settings(self) -> Settings:
        """The same for cypose_dask."""
        return Settings(model=self.spec.path, diameter=self.diameter, niter=self.niter)

    def movie(self, name: str, frames: np.ndarray) -> Path:
        """Write frames as a movie and return its path."""
        return our_runs.movie_file(frames, self.folder / f"{name}.tif")


def against_cellpose(bench: Bench) -> Iterator[str]:
    """Steady state: warm workers and models, files written on our side only."""
    weights, options = bench.spec.path, bench.options
    ours = bench.workload.repeated(2 * usable_cores() * bench.n_frames)
    path = bench.movie("steady", ours)
    with connect() as client, connect(workers=usable_cores()) as naive:
        contenders = [
            Contender("cypose_dask, files written",
                      lambda: our_runs.run(path, client, bench.settings), len(ours)),
            Contender("loop over eval",
                      lambda: cellpose_runs.loop(bench.frames, weights, **options), bench.n_frames),
            Contender("the same, batch_size=1",
                      lambda: cellpose_runs.loop(bench.frames, weights, batch_size=1, **options),
                      bench.n_frames),
            Contender("eval of the stack",
                      lambda: cellpose_runs.stack(bench.frames, weights, **options),
                      bench.n_frames),
            Contender("map_blocks of eval",
                      lambda: cellpose_runs.naive_map(bench.frames, naive, weights, options),
                      bench.n_frames),
        ]  # fmt: skip
        if bench.n_frames == 1:  # Cellpose takes a stack of one for a volume
            del contenders[3]
        alternate(contenders, bench.rounds)
    yield from _table(contenders, "loop over eval")


def _table(contenders: list[Contender], judge: str) -> Iterator[str]:
    yield "| | frames/s | cypose_dask is faster by | equal cells | equal pixels |"
    yield "|---|---|---|---|---|"
    for row in rows(contenders, judge):
        yield (
            f"| {row['name']} | {row['frames_per_s']:.3f} | {row['ours_is_faster_by']:.2f} | "
            f"{row['equal cells, %']:.2f} % | {row['equal pixels, %']:.4f} % |"
        )


def against_the_command_line(bench: Bench) -> Iterator[str]:
    """From the command to the last file, imports and workers included."""
    frames = bench.workload.repeated(COMMAND_FRAMES)
    path, folder = bench.movie("command", frames), bench.folder / "cli"
    given = {"diameter": bench.diameter} | ({"niter": bench.niter} if bench.niter else {})

    def theirs() -> list[np.ndarray]:
        shutil.rmtree(folder, ignore_errors=True)
        return cellpose_runs.command_line(frames, folder, bench.spec.path, **given)

    def ours() -> list[np.ndarray]:
        return our_runs.command_line(path, bench.folder, model=bench.spec.path, **given)

    contenders = [
        Contender(f"cypose-dask segment, {COMMAND_FRAMES} frames", ours, COMMAND_FRAMES),
        Contender(f"python -m cellpose, {COMMAND_FRAMES} frames", theirs, COMMAND_FRAMES),
    ]
    alternate(contenders, max(1, bench.rounds // 2), warm_up=False)
    yield from _table(contenders, contenders[1].name)


def dynamics_alone(bench: Bench) -> Iterator[str]:
    """Post-processing alone, on the same network output, for 200 and 2,000 steps."""
    flows, cellprob = _network_output(bench)
    yield "| steps | threads | Cellpose, ms | cypose_dask, ms | faster by | equal |"
    yield "|---|---|---|---|---|---|"
    for niter in (200, 2000):
        settings = bench.settings.replace(niter=niter)
        for threads in sorted({1, usable_cores()}):
            yield _dynamics_row((flows, cellprob), settings, threads, bench.rounds)


def _network_output(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    device, settings = settle_engine(bench.settings, bench.spec)
    networks = load_networks(bench.spec, device, settings=settings)
    settled = settle_numbers(settings, bench.spec)
    made = segment_frame(bench.frames[0][np.newaxis], networks, settled)
    return made.flows, made.cellprob


def _dynamics_row(
    output: tuple[np.ndarray, np.ndarray], settings: Settings, threads: int, rounds: int
) -> str:
    flows, cellprob = output
    contenders = [
        Contender("ours",
                  lambda: [labels_from_flows(flows, cellprob, settings, threads=threads)[0]], 1),
        Contender("Cellpose", lambda: [follow_and_label(flows, cellprob, settings, "cpu")[0]], 1),
    ]  # fmt: skip
    alternate(contenders, rounds)
    ours, theirs = (1000 * statistics.median(c.seconds) for c in contenders)
    same = np.array_equal(contenders[0].labels[0], contenders[1].labels[0])
    return (
        f"| {settings.niter:.0f} | {threads} | {theirs:.0f} | {ours:.0f} | {theirs / ours:.1f} | "
        f"{'yes' if same else 'NO'} |"
    )


def stages(bench: Bench) -> Iterator[str]:
    """Where the time goes: seconds a frame and stage, the forward's rate, wall over forward."""
    frames = bench.workload.repeated(4 * usable_cores() * bench.n_frames)
    path = bench.movie("stages", frames)
    with connect() as client:
        our_runs.run(path, client, bench.settings)  # warm
        begun = time.perf_counter()
        our_runs.run(path, client, bench.settings)
        wall = time.perf_counter() - begun
        peak = max(client.run(_peak_bytes).values())
    ours = our_runs.stage_seconds(path.with_suffix(".zarr"))
    with cellpose_runs.stage_clock() as theirs:
        cellpose_runs.loop(bench.frames, bench.spec.path, **bench.options)
    theirs = {stage: seconds / bench.n_frames for stage, seconds in theirs.items()}
    yield "| stage | Cellpose, ms a frame | cypose_dask, ms a frame and core |"
    yield "|---|---|---|"
    for stage in dict.fromkeys((*theirs, *ours)):
        yield f"| {stage} | {_ms(theirs.get(stage))} | {_ms(ours.get(stage))} |"
    rate, product = _forward_rate(bench, ours["forward"])
    yield ""
    share = 100 * rate / product
    yield f"forward: {rate:.0f} GFLOP/s a core, {share:.0f} % of GEMM's {product:.0f}"
    yield f"wall over forward: {wall * usable_cores() / (len(frames) * ours['forward']):.2f}"
    yield f"largest memory of a worker: {peak / 2**20:.0f} MiB"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f}"


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forward_rate(bench: Bench, seconds: float) -> tuple[float, float]:
    """Return GFLOP/s of the forward and of a matrix product, of one core."""
    tiles = tiles_of(bench.frames.shape[1:], 1.0)
    with gemm.processes(usable_cores()) as pool:
        product = statistics.mean(gemm.rates_at_once(pool, usable_cores()))
    return tiles * _gflop_a_tile(bench) / seconds, product


def _gflop_a_tile(bench: Bench) -> float:
    """Count the multiplications and additions of all convolutions for one tile of 224 px."""
    import torch
    from cellpose.models import CellposeModel

    counted: list[float] = []

    def count(layer: Any, _: Any, output: Any) -> None:
        counted.append(2 * layer.weight.numel() * output.shape[-1] * output.shape[-2])

    net = CellposeModel(pretrained_model=bench.spec.path).net  # one of its own, for the hooks
    net.mkldnn = False
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        net(torch.zeros(1, bench.spec.network_inputs, 224, 224))
    return sum(counted) / 1e9


def start(bench: Bench) -> Iterator[str]:
    """From the command to the first block, with a warm disk; and imports of both packages."""
    path = bench.movie("start", bench.workload.repeated(2))
    bench.folder.mkdir(parents=True, exist_ok=True)
    seconds = [our_runs.seconds_to_first_block(path, bench.folder) for _ in range(bench.rounds + 1)]
    yield f"command to first block: {statistics.median(seconds[1:]):.1f} s"
    yield f"import cellpose.models: {our_runs.import_seconds('cellpose.models'):.1f} s"


def empty_space(bench: Bench) -> Iterator[str]:
    """--skip-empty on a frame that is mostly background."""
    frame, share = _sparse(bench)
    device, settings = settle_engine(bench.settings, bench.spec)
    networks = load_networks(bench.spec, device, settings=settings)
    plain = settle_numbers(settings, bench.spec)
    skipping = plain.replace(skip_empty=True)
    contenders = [
        Contender("skip", lambda: [segment_frame(frame, networks, skipping).labels], 1),
        Contender("all", lambda: [segment_frame(frame, networks, plain).labels], 1),
    ]
    alternate(contenders, bench.rounds)
    cells, pixels = equal_shares(contenders[1].labels, contenders[0].labels)
    ratio = contenders[0].frames_per_s / contenders[1].frames_per_s
    yield (
        f"--skip-empty, {100 * share:.0f} % of the tiles occupied: {ratio:.1f} times as fast, "
        f"{cells:.2f} % of cells and {pixels:.4f} % of pixels equal"
    )


def _sparse(bench: Bench) -> tuple[np.ndarray, float]:
    """Return a frame (1, Y, X) of 2048 px with one colony in the noise, and the share it fills."""
    middle = slice(bench.frames.shape[1] // 2 - 80, bench.frames.shape[1] // 2 + 80)
    small = bench.frames[0][middle, middle]
    rng = np.random.default_rng(0)
    frame = rng.normal(np.median(small), 0.01 * np.median(small), (2048, 2048))
    frame[1000 : 1000 + small.shape[0], 1000 : 1000 + small.shape[1]] = small
    inside = [
        y0 < 1000 + small.shape[0] and y1 > 1000 and x0 < 1000 + small.shape[1] and x1 > 1000
        for y0, y1, x0, x1 in tiling_of(frame.shape).windows()
    ]
    return frame[np.newaxis].astype(np.uint16), float(np.mean(inside))

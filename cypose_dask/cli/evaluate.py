"""``cypose-dask evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cypose_dask.cli.options import quiet_libraries

if TYPE_CHECKING:
    from cypose_dask.learn.scoring.counts import Counts
    from cypose_dask.learn.scoring.evaluation import Evaluation
    from cypose_dask.learn.scoring.file_evaluation import FileEvaluation

__all__ = ["command"]

_ROWS = 20
_LISTED = 10
_NAME_LETTERS = 40
_NO_BIAS_PX = 0.005
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("evaluate")
@click.argument("prediction", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option(
    "--ignore-border", is_flag=True, help="Do not score cells that touch the edge of the frame."
)
@click.option(
    "--partial-truth",
    is_flag=True,
    help="Truth lacks some cells: score only those it has (recall and outlines).",
)
@click.option(
    "--threshold",
    "thresholds",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    metavar="IOU",
    help="IoU from which cells match; may be repeated. [default: 0.5 0.75 0.9]",
)
@click.option("--allow-missing", is_flag=True, help="Leave out files that have no partner.")
@click.option("--json", "json_file", type=_NEW_FILE, help="Write all numbers.")
@click.option("--picture", type=_NEW_FILE, help="Draw the worst frames, as a PNG.")
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="Movie, or folder of images, under the outlines of --picture.",
)
@click.option(
    "--worst", type=click.IntRange(1), default=3, show_default=True, help="Frames to draw."
)
def command(
    prediction: Path,
    truth: Path,
    thresholds: tuple[float, ...],
    json_file: Path | None,
    picture: Path | None,
    image: Path | None,
    worst: int,
    **rules: bool,
) -> int:
    """Compare PREDICTION (what the network found) with TRUTH (what is there).

    The order matters: swapped, precision becomes recall. Both are a TIF, a PNG, a Cellpose _seg.npy
    or a result (.zarr), or both are folders, whose files are paired by name without _seg,
    _cp_masks, _masks or _labels. In a folder of images, labels may lie in masks/ or labels/.

    AP is tp / (tp + fp + fn), as in Cellpose. PQ is panoptic quality at IoU above 0.5. A split
    is a true cell in several pieces, a merge is a predicted cell that holds several true ones.
    Outline is the mean distance in px between the outlines of matched cells, bias the same
    with a sign: positive where predicted cells are too fat, negative where they are too thin.

    With --ignore-border, a true cell at the border is neither found nor missed, and a predicted
    cell without a match is no error if it touches the border or lies at least half in true cells
    that do.
    """
    quiet_libraries()
    _check_options(picture, image)
    from cypose_dask.learn.scoring.evaluation import THRESHOLDS
    from cypose_dask.learn.scoring.file_evaluation import evaluate_files

    found = evaluate_files(prediction, truth, thresholds=thresholds or THRESHOLDS, **rules)
    click.echo("\n".join(_report(found)))
    _warn(found)
    if json_file:
        _write_json(found, json_file)
    if picture:
        _draw(found, picture, (image, worst))
    return 1 if found.not_scored else 0


def _check_options(picture: Path | None, image: Path | None) -> None:
    if image and not picture:
        raise click.UsageError("--image is drawn under the outlines of --picture: give both.")
    if image and not image.exists():
        raise click.UsageError(f"--image {image}: there is no such file or folder.")


def _report(found: FileEvaluation) -> list[str]:
    evaluation = found.evaluation
    return [
        f"prediction  {found.prediction}",
        f"truth       {found.truth}",
        *_scope(evaluation),
        "",
        *_frame_table(evaluation),
        "",
        *_threshold_table(evaluation),
        "",
        *_sentences(evaluation),
    ]


def _scope(evaluation: Evaluation) -> list[str]:
    counts = evaluation.pooled
    frames = len(evaluation.frames)
    lines = [
        f"scored      {frames} frame{'' if frames == 1 else 's'}: {counts.true_cells} true cells, "
        f"{counts.predicted_cells} predicted"
    ]
    if evaluation.ignore_border:
        lines.append(
            f"border      {counts.border_true} true and {counts.border_predicted} predicted cells "
            "are not scored"
        )
    if evaluation.partial_truth:
        lines.append("partial     truth lacks cells: only cells that it has are scored")
    return lines


def _frame_table(evaluation: Evaluation) -> list[str]:
    frames = evaluation.frames
    many = len(frames) > _ROWS
    shown = [frames[i] for i in evaluation.worst(_ROWS // 2)] if many else list(frames)
    names = [_short(frame.name) for frame in shown]
    rows = [
        [name, *_columns(frame.counts, evaluation)]
        for name, frame in zip(names, shown, strict=True)
    ]
    total = ["pooled", *_columns(evaluation.pooled, evaluation)]
    lines = _aligned([_heads(evaluation), *rows, total])
    if many:
        lines.insert(0, f"The worst {len(shown)} of {len(frames)} frames (all are in --json):")
    return lines


def _heads(evaluation: Evaluation) -> list[str]:
    score = "recall" if evaluation.partial_truth else "AP"
    heads = [f"{score}@{threshold:g}" for threshold in evaluation.thresholds]
    quality = "SQ" if evaluation.partial_truth else "PQ"
    return ["frame", "true", "pred", *heads, quality, "splits", "merges", "outline", "bias"]


def _columns(counts: Counts, evaluation: Evaluation) -> list[str]:
    partial = evaluation.partial_truth
    scores = (*(counts.recall if partial else counts.ap), counts.sq if partial else counts.pq)
    return [
        str(counts.true_cells),
        str(counts.predicted_cells),
        *(_number(score) for score in scores),
        str(counts.splits),
        str(counts.merges),
        _number(counts.boundary_px, "{:.2f}"),
        _number(counts.bias_px, "{:+.2f}"),
    ]


def _threshold_table(evaluation: Evaluation) -> list[str]:
    counts = evaluation.pooled
    rows: list[tuple[str, tuple[float, ...] | None]] = [
        ("AP", counts.ap),
        ("precision", counts.precision),
        ("recall", counts.recall),
        ("F1", counts.f1),
        ("AP, mean of frames", evaluation.mean_ap),
        ("found", counts.tp),
        ("missed", counts.fn),
        ("too many", counts.fp),
    ]
    if evaluation.partial_truth:
        rows = [row for row in rows if row[0] in ("recall", "found", "missed")]
    heads = ["pooled, at IoU", *(f"{threshold:g}" for threshold in counts.thresholds)]
    return _aligned([heads, *([name, *map(_number, values or ())] for name, values in rows)])


def _sentences(evaluation: Evaluation) -> list[str]:
    counts = evaluation.pooled
    lines = []
    if not evaluation.partial_truth:
        lines.append(
            f"PQ {_number(counts.pq)} = SQ {_number(counts.sq)} x RQ {_number(counts.rq)}"
            " (IoU above 0.5)"
        )
        left_out = evaluation.n_without_ap
        if left_out:
            frames = "1 frame has" if left_out == 1 else f"{left_out} frames have"
            lines.append(f"{frames} no cell on either side; the mean of frames is without them.")
    if counts.outlined:
        lines.append(
            f"Predicted outlines lie {counts.boundary_px:.2f} px from the true ones, "
            f"{_side(counts.bias_px)}."
        )
    return lines


def _side(bias_px: float) -> str:
    if abs(bias_px) < _NO_BIAS_PX:
        return "to neither side"
    return f"on average {abs(bias_px):.2f} px {'outside of' if bias_px > 0 else 'inside'} them"


def _warn(found: FileEvaluation) -> None:
    _echo_list(found.not_scored, "frames are not scored, they have no labels")
    _echo_list(found.left_out, "files are left out")
    pair = found.places[0][0]
    if pair.truth.from_result and not pair.predicted.from_result:
        click.echo(
            "note        The truth is a result of this package and the prediction is not. If the "
            "two are swapped, so are precision and recall.",
            err=True,
        )


def _echo_list(lines: tuple[str, ...], what: str) -> None:
    if not lines:
        return
    click.echo(f"warning     {len(lines)} {what}:", err=True)
    for line in lines[:_LISTED]:
        click.echo(f"            {line}", err=True)
    if len(lines) > _LISTED:
        click.echo(f"            ... and {len(lines) - _LISTED} more (all are in --json)", err=True)


def _write_json(found: FileEvaluation, path: Path) -> None:
    from cypose_dask import __version__
    from cypose_dask.results.atomic import write_json

    write_json(path, {"cypose_dask": __version__, **found.to_dict()})
    click.echo(f"numbers     {path}")


def _draw(found: FileEvaluation, path: Path, how: tuple[Path | None, int]) -> None:
    from cypose_dask.learn.scoring.worst_frames import open_backdrops, save_worst_frames

    image, worst = how
    pairs = list({id(pair): pair for pair, _ in found.places}.values())
    backdrops = open_backdrops(image, pairs) if image else None
    names = save_worst_frames(found, path, most=worst, backdrops=backdrops)
    click.echo(f"picture     {path}: {', '.join(names)}")


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _short(name: str) -> str:
    """Cut a long name in front: the frame's number stands at its end."""
    return name if len(name) <= _NAME_LETTERS else f"...{name[3 - _NAME_LETTERS :]}"


def _number(value: Any, form: str = "{:.3f}") -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else form.format(value)

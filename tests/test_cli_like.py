"""`--like` on the command line: what is said by hand wins, and what differs is printed."""

from __future__ import annotations

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cypose_dask.cli.like import like_option, liken
from cypose_dask.errors import SettingsError
from cypose_dask.settings import Settings


@click.command()
@like_option
@click.option("--model", default="default")
@click.option("--diameter", default="model")
@click.option("--flow-threshold", type=float, default=0.75, envvar="A_THRESHOLD")
@click.option("--channels")
@click.option("--chan", type=int)
@click.option("--restoration")
@click.pass_context
def small(ctx, like, chan, restoration, **given):
    """A command with a few of the options of `segment`."""
    channels = (chan - 1,) if chan else given["channels"]
    ctx.obj["made"] = liken(given | {"channels": channels, "denoise": restoration}, like)


def run(*args, **options):
    obj = {}
    done = CliRunner().invoke(small, [str(arg) for arg in args], obj=obj, **options)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return obj.get("made"), done.stderr


def test_without_like_nothing_changes():
    made, told = run("--diameter", "9")
    assert (made["diameter"], made["flow_threshold"], told) == ("9", 0.75, "")


def test_settings_of_the_program_take_the_place_of_defaults():
    made, told = run("--like", "cellpose-cli")
    assert (made["model"], made["diameter"], made["channels"]) == ("cyto3", 30.0, "mean")
    assert made["flow_threshold"] == 0.4
    assert told.startswith("like      cellpose-cli: ")
    Settings(**made)


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (("--diameter", "12"), "diameter", "12"),
        (("--chan", "2"), "channels", (1,)),
        (("--restoration", "deblur_cyto3"), "denoise", "deblur_cyto3"),
        (("--model", "cyano-rods"), "model", "cyano-rods"),
        # Said, though it is what would hold anyway.
        (("--flow-threshold", "0.75"), "flow_threshold", 0.75),
    ],
)
def test_what_is_said_by_hand_wins(args, field, value):
    made, told = run("--like", "cellpose-cli", *args)
    assert made[field] == value
    assert f"{field} is " in told


def test_the_environment_is_said_by_hand_too():
    made, _ = run("--like", "cellpose-cli", env={"A_THRESHOLD": "0.6"})
    assert made["flow_threshold"] == 0.6


def test_a_file_of_the_gui(tmp_path):
    path = tmp_path / "x_seg.npy"
    masks = np.zeros((4, 4), np.uint16)
    content = {"masks": masks, "chan_choose": [2, 1], "diameter": 11.5, "model_path": "gone/x"}
    np.save(path, content, allow_pickle=True)
    made, told = run("--like", path, "--model", "cyano-rods")
    assert (made["diameter"], made["channels"]) == (11.5, (1, 0))
    assert "does not say flow_threshold" in told
    with pytest.raises(SettingsError, match=r"gone/x is not on this machine"):
        run("--like", path)


def test_an_unknown_program_is_refused():
    with pytest.raises(SettingsError, match="no preset 'fiji'"):
        run("--like", "fiji")


# ---- with segment ----------------------------------------------------------------------------


def test_segment_gives_the_labels_of_the_program(cli, nd2_path, synthetic, model_path, tmp_path):
    from cellpose.models import CellposeModel

    from cypose_dask.results import open_result

    place = tmp_path / "x.tif"
    code, _, err = cli(
        "segment", nd2_path, "-o", place, "--like", "cellpose-cli", "--model", model_path,
        "--end-frame", 1, "--workers", 1,
    )  # fmt: skip
    assert code == 0
    assert "like      cellpose-cli" in err
    # What python -m cellpose passes when nothing is said but a model.
    theirs = CellposeModel(pretrained_model=model_path).eval(
        synthetic.frames[0], channels=[0, 0], diameter=30.0, channel_axis=0
    )[0]
    np.testing.assert_array_equal(open_result(tmp_path / "x.zarr").labels()[0, 0], theirs)
    assert open_result(tmp_path / "x.zarr").attributes["plan"]["settings"]["flow_threshold"] == 0.4


def test_plan_knows_like_too(cli):
    code, out, _ = cli("plan", "--help")
    assert (code, "--like" in out) == (0, True)

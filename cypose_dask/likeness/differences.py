"""What Cellpose cannot say, or does otherwise, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cypose_dask.likeness.calls import Ran

__all__ = ["cannot_say", "differs"]


def cannot_say(ran: Ran) -> tuple[str, ...]:
    """Return what Cellpose's command line has no option for.

    Source: cellpose 3.1.1.3 ``cli.py`` and ``__main__.py``.
    """
    s = ran.settings
    return tuple(
        why
        for why, holds in {
            "It takes no intensities for 0 and 1, which were "
            f"{_pairs(s.normalize)} here: only percentiles of each image.": not isinstance(
                s.normalize, str
            ),
            "It drops --invert when --norm_percentile is given.": s.invert
            and s.percentiles != (1.0, 99.0),
            "Its networks have two inputs, or as many as an image has channels: this one has "
            f"{ran.model['network_inputs']}, of which the movie fills "
            f"{ran.inputs}.": ran.model["network_inputs"] not in (2, ran.inputs),
            "It fails on networks of one input at any diameter but "
            f"{ran.model['diam_mean']:g} px: resizing drops the only "
            "channel.": _fails(ran),
            "It makes a transformer by --transformer, which loads its own weights "
            "alone.": ran.model["backbone"] != "default",
            "It knows restoration networks by name alone, and restores two channels by two "
            "networks of which one never runs.": ran.restoration is not None
            and (ran.restoration["kind"] != "built-in" or ran.inputs > 1),
            "It restores an inverted image and inverts it again.": ran.restoration is not None
            and s.invert,
            "Its --niter 0 is automatic, so that less than one step cannot be said.": bool(
                s.niter and s.niter < 1
            ),
        }.items()
        if holds
    )


def differs(ran: Ran) -> tuple[str, ...]:
    """Return where Cellpose's labels may differ though the settings are equal."""
    s = ran.settings
    return tuple(
        why
        for why, holds in {
            "Cellpose has no time axis: both calls segment one frame. A movie needs a loop, or "
            "this program.": True,
            "Cellpose fails on a network of one input unless the diameter is that of its "
            "training scale: resizing drops the only channel. The Python call fails "
            "too.": _fails(ran),
            "Frames of one single intensity have no cells here; Cellpose leaves them raw, and may "
            "find some.": True,
            "The network ran in other kernels, or in batches, which round the last bits otherwise "
            "than Cellpose (flows differ by some millionths); --engine reference is bit by "
            "bit.": s.engine == "fast" and s.precision == "single",
            "The network ran in half precision, which Cellpose 3 has not; some borders differ by "
            "a pixel.": s.precision == "half",
            f"The dynamics ran on {s.dynamics_device} and the network on {ran.device}. Cellpose "
            "runs both on one device, and its two implementations differ by some pixels of one "
            "cell in seven.": s.dynamics_device != ran.device,
            "Tiles in which nothing stands out of the noise were left out; Cellpose has no such "
            "step.": s.skip_empty,
            "Cells that were too small were removed themselves (--fix-small-masks); Cellpose 3 may "
            "remove others in their place.": s.fix_small_masks,
            "0 and 1 of the network were measured once over the whole movie; Cellpose measures "
            "each image. The call has the numbers.": ran.requested.normalize == "movie",
            "The diameter was measured once for the movie; Cellpose would measure each image. The "
            "calls have the number.": ran.requested.diameter == "estimate",
            "A channel that is constant in a frame stays zero.": ran.inputs > 1,
        }.items()
        if holds
    )


def _fails(ran: Ran) -> bool:
    """Tell whether Cellpose would resize an image of one channel (transforms.resize_image)."""
    rescaled = ran.settings.diameter_px != ran.model["diam_mean"]
    return bool(ran.model["network_inputs"] == 1 and rescaled)


def _pairs(normalize: object) -> str:
    return ", ".join(f"{v:g}" for v in normalize) if isinstance(normalize, tuple) else ""

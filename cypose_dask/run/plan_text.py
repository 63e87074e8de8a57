"""A plan in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cypose_dask.engine import tiles_of

if TYPE_CHECKING:
    from cypose_dask.run.plan import Plan

__all__ = ["describe"]


def describe(plan: Plan) -> list[str]:
    """Return a plan as lines for a person."""
    info, s = plan.movie.info, plan.settings
    sizes = ", ".join(f"{axis} {size}" for axis, size in info.sizes.items())
    steps = f"{s.niter:.0f} steps" if s.niter is not None else "steps undecided"
    lines = [
        f"movie     {info.path} ({info.format}; {sizes}; {info.dtype})",
        *(f"          {note}" for note in info.notes),
        f"frames    {plan.start} to {plan.stop - 1}, {plan.n_frames} in "
        f"{sum(1 for _ in plan.blocks())} blocks of {plan.frames_per_block}",
        f"model     {plan.model.name} ({plan.model.kind}, sha256 {plan.model.sha256[:12]})",
        f"channels  {_channels(plan)}",
        f"diameter  {s.diameter_px:.4g} px ({_how(plan.requested.diameter)}), {steps}",
        f"normalise {_normalisation(plan)}",
        f"labels    flow threshold {s.flow_threshold:g}, cellprob threshold "
        f"{s.cellprob_threshold:g}, at least {s.min_size_px} px"
        f"{' (as mended in Cellpose 4)' if s.fix_small_masks else ''}",
        f"engine    {_engine(plan)}",
        f"work      {_work(plan)}",
    ]
    if plan.restoration:
        lines.insert(-3, f"denoise   {plan.restoration.name} first")
    return lines


def _channels(plan: Plan) -> str:
    if plan.settings.channels == "mean":
        return "mean of all channels"
    names = plan.movie.info.channel_names
    chosen = [f"{i} ({names[i]})" for i in plan.settings.channels or () if isinstance(i, int)]
    spare = plan.model.network_inputs - len(chosen)
    rest = f"; {spare} further network input{'s stay' if spare > 1 else ' stays'} zero"
    return ", ".join(chosen) + (rest if spare else "")


def _normalisation(plan: Plan) -> str:
    s, inverted = plan.settings, ", inverted" if plan.settings.invert else ""
    if s.normalize == "none":
        return "not at all"
    if s.normalize == "frame":
        low, high = s.percentiles
        return f"percentiles {low:g} to {high:g} of each frame{inverted}"
    measured = " (measured over the movie)" if plan.requested.normalize == "movie" else ""
    return ", ".join(f"{value:g}" for value in s.normalize) + measured + inverted


def _engine(plan: Plan) -> str:
    s = plan.settings
    if s.engine == "reference":
        return f"Cellpose's own functions (reference) on {plan.device}"
    half = " in half precision" if s.precision == "half" else ""
    skip = "; empty tiles are left out" if s.skip_empty else ""
    return f"{s.runtime} on {plan.device}{half}, dynamics on {s.dynamics_device}{skip}"


def _work(plan: Plan) -> str:
    """Say what the diameter costs: frames are rescaled, and their tiles are the work."""
    model, diameter = plan.model, plan.settings.diameter_px
    shape = (plan.movie.info.sizes["Y"], plan.movie.info.sizes["X"])
    tiles = tiles_of(shape, model.diam_mean / diameter)
    own = tiles_of(shape, model.diam_mean / model.diameter)
    scaled = (
        f"{tiles} tile{'s' if tiles > 1 else ''} a frame (cells are scaled from {diameter:.3g} to "
        f"{model.diam_mean:.3g} px)"
    )
    if tiles == own:
        return scaled
    times = f"{tiles / own:.1f} times more" if tiles > own else f"{own / tiles:.1f} times less"
    return f"{scaled}, {times} than at the model's own {model.diameter:.3g} px"


def _how(requested: object) -> str:
    words = {"model": "the model's own", "estimate": "estimated on sampled frames"}
    return words.get(str(requested), "as given")

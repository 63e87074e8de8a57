"""Training a Cellpose network: Cellpose's loss, crops and targets, in a loop that survives a kill.

`cellpose.train.train_seg` neither validates by average precision nor can it be continued, so the
loop is ours; what is learned is what Cellpose would learn: `_loss_fn_seg`, `labels_to_flows`,
`random_rotate_and_resize` and AdamW, and the file is one that `CellposeModel` itself loads.
Everything random in an epoch follows from its number, so a run that was killed and continued ends
in the same weights as one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.learn.training import checkpoint as saved
from cypose_dask.learn.training.examples import Examples
from cypose_dask.learn.training.targets import Crops, prepare
from cypose_dask.learn.training.validation import mean_precision

if TYPE_CHECKING:
    from cypose_dask.models import ModelSpec

log = logging.getLogger(__name__)

WARM_UP = 10  # epochs of rising rate, as in Cellpose
HALVINGS = 10  # of the rate, over the last quarter; Cellpose does the same over a fixed count


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are for a network from scratch on many frames.

    Attributes
    ----------
    diameter : float or None
        Diameter that cells are scaled to, px (`diam_mean` of the file). None keeps that of the
        weights that training starts from, and is 18 from scratch.
    inputs : int or None
        Channels of the network's input, 1 to 3. None keeps that of the weights that training
        starts from, and is 2 from scratch, as Cellpose has it.
    n_epochs : int
        Epochs; the rate rises over the first 10 and falls over the last quarter.
    crops_per_epoch : int
        Crops in one epoch, drawn from all frames.
    crop_px : int
        Side of a crop, px.
    batch_size : int
        Crops in one step.
    learning_rate : float
        Peak rate of AdamW, dimensionless.
    weight_decay : float
        Of AdamW, dimensionless.
    seed : int
        Of the initial weights and of the crops.
    validate_every : int
        Epochs between validations, each of which leaves a checkpoint.
    """

    diameter: float | None = None
    inputs: int | None = None
    n_epochs: int = 400
    crops_per_epoch: int = 64
    crop_px: int = 112
    batch_size: int = 8
    learning_rate: float = 0.004
    weight_decay: float = 1e-5
    seed: int = 0
    validate_every: int = 10

    def __post_init__(self) -> None:
        for name in ("n_epochs", "crops_per_epoch", "crop_px", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.crop_px % 16:
            # The network halves its input three times, and Cellpose pads tiles to sixteenths.
            raise SettingsError(f"crop_px is {self.crop_px}; expected a multiple of 16.")
        if self.learning_rate <= 0:
            raise SettingsError(f"learning_rate is {self.learning_rate}; expected more than 0.")

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0; dimensionless."""
        tail = self.n_epochs // 4  # none in a training of three epochs, which never falls
        left = self.n_epochs - 1 - epoch
        halved = max(0, HALVINGS - left * HALVINGS // tail) if tail else 0
        return self.learning_rate * min(1.0, (epoch + 1) / WARM_UP) * 0.5**halved


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve.

    Attributes
    ----------
    epoch : int
        Epochs done.
    loss : float or None
        Mean of Cellpose's loss over the crops since the last line, dimensionless; None before the
        first epoch.
    ap : tuple of float
        Mean average precision of the validation frames at IoU 0.5, 0.75 and 0.9.
    rate : float
        Learning rate, dimensionless.
    """

    epoch: int
    loss: float | None
    ap: tuple[float, ...]
    rate: float

    @property
    def score(self) -> float:
        """Mean over the thresholds: what the best epoch is chosen by."""
        return float(np.mean(self.ap))


def best_of(curve: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights are kept: of equal scores the last."""
    return max(reversed(curve), key=lambda line: line.score)


@dataclass
class _Run:
    """What changes while training."""

    net: Any
    optimizer: Any
    curve: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def next_epoch(self) -> int:
        return self.curve[-1].epoch if self.curve else 0


def train_network(
    examples: Examples,
    validation: Examples,
    *,
    folder: str | Path,
    name: str,
    recipe: Recipe | None = None,
    start: ModelSpec | None = None,
    gpu: bool = False,
    watch: Callable[[Epoch], None] | None = None,
) -> Path:
    """Train a network, or go on with a training that was stopped.

    Weights to start from are scored first, so that training never leaves worse ones than these.

    Parameters
    ----------
    examples, validation : Examples
        Frames to learn from, and frames of other movies by which the best epoch is chosen.
    folder : path
        Where ``NAME`` (the weights of the best epoch so far), ``NAME.checkpoint`` (to continue)
        and ``NAME.curve.json`` (the learning curve) are written.
    name : str
        File name of the network.
    recipe : Recipe, optional
        How to train.
    start : ModelSpec, optional
        Weights to begin with; random ones where it is not given.
    gpu : bool, optional
        Demand a GPU.
    watch : callable, optional
        Called with every line of the learning curve, those of an earlier call first.

    Returns
    -------
    pathlib.Path
        The weights of the best epoch, float32, as Cellpose writes them.

    Raises
    ------
    SettingsError
        No frames, frames of more channels than the network has inputs, or the folder holds a
        checkpoint of another training.
    DeviceError
        A GPU was demanded and there is none.

    Notes
    -----
    Source: `cellpose.train.train_seg` (3.1.1.3); its loss, its augmentation, its AdamW.
    """
    from cypose_dask.engine.device import choose_device

    recipe = recipe or Recipe()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    net = new_network(recipe, start=start, device=choose_device(gpu))
    crops = _crops(examples, net, recipe)
    if not len(validation):
        raise SettingsError("There are no frames to validate on, so no epoch can be called best.")
    run = _Run(net, _optimizer(net, recipe))
    plan = _plan(recipe, start, examples, validation)
    _resume(run, folder / f"{name}.checkpoint", plan)
    for line in run.curve if watch else ():
        watch(line)  # type: ignore[misc]
    while run.next_epoch < recipe.n_epochs:
        if run.curve or not start:
            _train_until_validation(run, crops, recipe)
        _validate(run, validation, recipe)
        _save(run, folder / name, plan)
        if watch:
            watch(run.curve[-1])
    return folder / name


def _crops(examples: Examples, net: Any, recipe: Recipe) -> Crops:
    prepared = prepare(examples, inputs=net.nchan, device=net.device)
    net.diam_labels.data[:] = float(np.mean(prepared.diameters))
    return Crops(prepared, diameter=float(net.diam_mean), side=recipe.crop_px)


def _optimizer(net: Any, recipe: Recipe) -> Any:
    import torch

    trained = [p for p in net.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _plan(
    recipe: Recipe, start: ModelSpec | None, examples: Examples, validation: Examples
) -> dict[str, Any]:
    """Everything that decides the weights; a checkpoint of another plan is refused."""
    return {
        "recipe": asdict(recipe),
        "start": start.sha256 if start else None,
        "training data": saved.content_hash(examples),
        "validation data": saved.content_hash(validation),
    }


def _resume(run: _Run, path: Path, plan: dict[str, Any]) -> None:
    state = saved.read(path, plan)
    if state is None:
        return
    run.net.load_state_dict(state["net"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.curve = [Epoch(**line | {"ap": tuple(line["ap"])}) for line in state["curve"]]
    log.info("continuing %s after epoch %d", path, run.next_epoch)


def _train_until_validation(run: _Run, crops: Crops, recipe: Recipe) -> None:
    first = run.next_epoch
    last = min(first + recipe.validate_every, recipe.n_epochs)
    run.losses = []
    for epoch in range(first, last):
        run.losses.append(_train_epoch(run, crops, (recipe, epoch)))


def _train_epoch(run: _Run, crops: Crops, which: tuple[Recipe, int]) -> float:
    """Take one pass over `crops_per_epoch` crops and return the mean loss."""
    import torch
    from cellpose import train

    recipe, epoch = which
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.rate(epoch)
    run.net.train()
    total = 0.0
    batches = crops.epoch(
        recipe.crops_per_epoch, batch_size=recipe.batch_size, seed=(recipe.seed, epoch)
    )
    for images, targets in batches:
        output = run.net(torch.from_numpy(images).to(run.net.device))[0]
        loss = train._loss_fn_seg(targets, output, run.net.device)
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        total += loss.item() * len(images)
    return total / recipe.crops_per_epoch


def _validate(run: _Run, validation: Examples, recipe: Recipe) -> None:
    done = run.next_epoch + len(run.losses)
    ap = mean_precision(run.net, validation)
    loss = float(np.mean(run.losses)) if run.losses else None
    run.curve.append(Epoch(done, loss, ap, recipe.rate(done - 1) if done else 0.0))
    learned = "" if loss is None else f"loss {loss:.3f}, "
    log.info("epoch %d: %sAP %s", done, learned, " ".join(f"{a:.3f}" for a in ap))


def _save(run: _Run, path: Path, plan: dict[str, Any]) -> None:
    """Keep the best weights, then the checkpoint: a kill in between only repeats some epochs."""
    if best_of(run.curve) is run.curve[-1]:
        saved.write_weights(path, run.net)
    lines = [asdict(line) for line in run.curve]
    state = {"net": run.net.state_dict(), "optimizer": run.optimizer.state_dict(), "curve": lines}
    saved.write(path.with_name(f"{path.name}.checkpoint"), state, plan)
    saved.write_curve(path.with_name(f"{path.name}.curve.json"), lines)


def new_network(recipe: Recipe, *, start: ModelSpec | None = None, device: str = "cpu") -> Any:
    """Make a network to train, random or from weights; its training pass is fast on a CPU.

    Parameters
    ----------
    recipe : Recipe
        Its seed, and where given its diameter and its number of inputs.
    start : ModelSpec, optional
        Weights to begin with.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Returns
    -------
    torch.nn.Module
        Cellpose's network, float32.

    Raises
    ------
    SettingsError
        The recipe's number of inputs is not that of `start`.
    """
    import torch
    from cellpose.models import CellposeModel

    if start and recipe.inputs not in (None, start.network_inputs):
        raise SettingsError(
            f"{start.name} has {start.network_inputs} inputs and cannot become a network of "
            f"{recipe.inputs}; start from another model or from scratch."
        )
    torch.manual_seed(recipe.seed)
    # Cellpose's dynamics make sparse tensors; without a choice torch warns once a process.
    torch.sparse.check_sparse_tensor_invariants.disable()
    torch.set_flush_denormal(True)  # denormals late in training cost a factor of two
    net = CellposeModel(
        device=torch.device(device),
        pretrained_model=start.path if start else False,
        nchan=start.network_inputs if start else recipe.inputs or 2,
        backbone=start.backbone if start else "default",
    ).net
    net.diam_mean.data[:] = recipe.diameter or (start.diam_mean if start else 18.0)
    net.mkldnn = False  # Cellpose's own conversion cannot be trained in channels-last order
    return _fast_on_cpu(net) if device == "cpu" else net


def _fast_on_cpu(net: Any) -> Any:
    """Keep channels last, and train in bfloat16 where the CPU multiplies it: 1.9 times as fast."""
    import torch

    net.to(memory_format=torch.channels_last)
    narrow = torch.cpu._is_avx512_bf16_supported()
    plain = net.forward

    def forward(data: Any) -> Any:
        data = data.contiguous(memory_format=torch.channels_last)
        # Validation sees what users will: float32.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow and net.training):
            output, style, down = plain(data)
        return output.float(), style, down

    net.forward = forward
    return net

"""Which model suits a movie: all of them segment the same few frames, with or without a truth.

`shots` takes the frames, `compare` segments them, `tally` measures agreement, steadiness and truth,
`ranking` orders the models and `picture` draws the frame on which they differ most. `difference`
takes two results instead, whose settings `sides` reads, and tries one setting at a time.
"""

from cypose_dask.learn.comparison.compare import Example, ModelComparison, compare_models
from cypose_dask.learn.comparison.difference import Difference, Effect, diff_sides
from cypose_dask.learn.comparison.picture import save_comparison
from cypose_dask.learn.comparison.ranking import Variant, VariantScore
from cypose_dask.learn.comparison.shots import Shot, consecutive_shots, true_shots
from cypose_dask.learn.comparison.sides import Side, read_side

__all__ = [
    "Difference",
    "Effect",
    "Example",
    "ModelComparison",
    "Shot",
    "Side",
    "Variant",
    "VariantScore",
    "compare_models",
    "consecutive_shots",
    "diff_sides",
    "read_side",
    "save_comparison",
    "true_shots",
]

"""Labelled frames become a model: read examples, train, keep the best epoch, write it down.

`example_files` reads labelled frames from disk into `examples`; `targets` makes crops of them,
`loop` trains, `validation` scores every few epochs and `checkpoint` survives a kill; `job` does all
of it for one model and hands the weights to `bundle` (float16), `registry` and `card`. `average`
makes one network of several.
"""

from cypose_dask.learn.training.average import average_weights
from cypose_dask.learn.training.bundle import Entry, bundle_model, to_float16
from cypose_dask.learn.training.card import UNKNOWN_LICENCE
from cypose_dask.learn.training.example_files import (
    FoundExamples,
    Reading,
    find_examples,
    read_examples,
)
from cypose_dask.learn.training.examples import Examples, split_by_movie, split_in_time
from cypose_dask.learn.training.job import (
    About,
    ModelJob,
    TrainedModel,
    check_output,
    default_recipe,
    train_model,
)
from cypose_dask.learn.training.loop import Epoch, Recipe, best_of, train_network
from cypose_dask.learn.training.validation import segment_like

__all__ = [
    "UNKNOWN_LICENCE",
    "About",
    "Entry",
    "Epoch",
    "Examples",
    "FoundExamples",
    "ModelJob",
    "Reading",
    "Recipe",
    "TrainedModel",
    "average_weights",
    "best_of",
    "bundle_model",
    "check_output",
    "default_recipe",
    "find_examples",
    "read_examples",
    "segment_like",
    "split_by_movie",
    "split_in_time",
    "to_float16",
    "train_model",
    "train_network",
]

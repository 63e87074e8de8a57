"""Our own kernels compute what a convolution computes, whatever is left out on the way."""

import gc
import threading
import weakref

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import from_numpy
from torch.nn.functional import conv2d

from cypose_dask.engine.runtimes.on_torch import FoldedNetwork
from cypose_dask.engine.runtimes.winograd import convolution
from cypose_dask.engine.runtimes.winograd import memory as memory_room
from cypose_dask.engine.runtimes.winograd import operations as operations_room
from cypose_dask.engine.runtimes.winograd.memory import Memory, aligned
from cypose_dask.engine.runtimes.winograd.operations import Operations
from cypose_dask.engine.runtimes.winograd.product import COLUMNS, Rows, multiply, pack

# Of float32, for sums of a few hundred numbers of about one.
CLOSE = 2e-5
many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def folded(inputs, outputs, seed=0):
    """Weights of one convolution of each kind, a norm, a scale and a dense layer."""
    return {
        "wide.weight": numbers(outputs, inputs, 3, 3, seed=seed) / 3,
        "wide.bias": numbers(outputs, seed=seed + 1),
        "narrow.weight": numbers(outputs, inputs, 1, 1, seed=seed + 2),
        "narrow.bias": numbers(outputs, seed=seed + 3),
        "norm.scale": numbers(inputs, 1, 1, seed=seed + 4),
        "norm.shift": numbers(inputs, 1, 1, seed=seed + 5),
        "skip.scale": numbers(outputs, 1, 1, seed=seed + 6),
        "dense.weight": numbers(outputs, outputs, seed=seed + 7),
        "dense.bias": numbers(outputs, seed=seed + 8),
    }


def both(weights, tile, work):
    """Return what `work` makes of a tile with our operations, and in torch's float64."""
    do, exact = Operations(weights), FoldedNetwork(weights).double()
    expected = work(exact, from_numpy(tile[np.newaxis].astype(np.float64)))[0].numpy()
    return do.written(work(do, do.read(tile)), len(expected)), expected


def check(found, expected):
    assert found.shape == expected.shape
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * scale)


# Products


@many
@given(st.integers(0, 20), st.integers(1, 70), st.integers(1, 80), st.integers(0, 9))
def test_products_are_those_of_numpy_and_nothing_else_is_written(rows, depth, columns, gap):
    left, right = numbers(rows, depth + gap), numbers(depth, columns, seed=1)
    wide = -(-columns // COLUMNS) * COLUMNS
    start = np.pad(numbers(columns, seed=2), (0, wide - columns))
    into = np.full((rows + 2, wide + gap), np.nan, np.float32)
    multiply(
        Rows(left.ravel(), 0, depth + gap),
        Rows(np.concatenate([[7], pack(right)]).astype(np.float32), 1, depth),
        start,
        Rows(into.ravel(), wide + gap, wide + gap),
        rows,
    )
    expected = left[:, :depth].astype(np.float64) @ right + start[:columns]
    written = into[1 : rows + 1, :wide]
    np.testing.assert_allclose(written[:, :columns], expected, rtol=0, atol=CLOSE * 10)
    assert (written[:, columns:] == 0).all()
    assert np.isnan(into[[0, -1]]).all()
    assert np.isnan(into[:, wide:]).all()


# Convolutions


@many
@given(
    st.tuples(st.integers(1, 19), st.integers(1, 19)),
    st.sampled_from([1, 2, 32, 40]),
    st.sampled_from([3, 32, 33]),
)
def test_a_convolution_of_any_size_is_one(shape, inputs, outputs):
    found, expected = both(
        folded(inputs, outputs), numbers(inputs, *shape), lambda do, x: do.conv(x, "wide")
    )
    check(found, expected)


def test_a_convolution_of_many_strips_is_one():
    weights, tile = folded(32, 32), numbers(32, 60, 224)
    check(*both(weights, tile, lambda do, x: do.conv(x, "wide")))


# Each of them is computed at once where it follows or leads a convolution, and alone where not.
CHAINS = {
    "as it is": lambda do, x: x,
    "narrow": lambda do, x: do.conv(x, "narrow"),
    "relu": lambda do, x: do.relu(x),
    "norm": lambda do, x: do.norm_relu(x, "norm"),
    "norm, conv": lambda do, x: do.conv(do.norm_relu(x, "norm"), "wide"),
    "norm, narrow": lambda do, x: do.conv(do.norm_relu(x, "norm"), "narrow"),
    "norm twice": lambda do, x: do.norm_relu(do.norm_relu(x, "norm"), "norm"),
    "norm, scale": lambda do, x: do.scale(do.norm_relu(x, "norm"), "skip"),
    "scale, relu": lambda do, x: do.relu(do.scale(x, "skip")),
    "scale, conv": lambda do, x: do.conv(do.scale(x, "skip"), "wide"),
    "conv, relu": lambda do, x: do.relu(do.conv(x, "wide")),
    "conv, norm": lambda do, x: do.norm_relu(do.conv(x, "wide"), "norm"),
    "conv + input": lambda do, x: do.add(do.conv(x, "wide"), x),
    "input + conv": lambda do, x: do.add(x, do.conv(x, "wide")),
    "conv + scaled": lambda do, x: do.add(do.conv(x, "wide"), do.scale(x, "skip")),
    "conv + narrow, relu": lambda do, x: do.relu(do.add(do.conv(x, "narrow"), do.conv(x, "wide"))),
    "conv + conv": lambda do, x: do.add(do.conv(x, "wide"), do.conv(do.relu(x), "wide")),
    "sum + conv": lambda do, x: do.add(do.add(do.conv(x, "wide"), x), do.conv(x, "wide")),
    "conv, pool": lambda do, x: do.pool(do.conv(x, "wide")),
    "norm, pool": lambda do, x: do.pool(do.norm_relu(x, "norm")),
    "doubled": lambda do, x: do.upsample(x),
    "doubled twice": lambda do, x: do.upsample(do.upsample(x)),
    "doubled, pool": lambda do, x: do.pool(do.upsample(x)),
    "doubled, conv": lambda do, x: do.conv(do.upsample(do.conv(x, "wide")), "wide"),
    "doubled, norm, conv": lambda do, x: do.conv(do.norm_relu(do.upsample(x), "norm"), "wide"),
    "doubled, narrow": lambda do, x: do.conv(do.upsample(x), "narrow"),
    "conv + doubled narrow": lambda do, x: do.add(
        do.conv(do.upsample(x), "narrow"), do.conv(do.upsample(x), "wide")
    ),
    "styled": lambda do, x: do.style_relu(x, do.style(x), "dense"),
    "conv, styled": lambda do, x: do.style_relu(do.conv(x, "wide"), do.style(x), "dense"),
    "scaled, styled, conv": lambda do, x: do.conv(
        do.style_relu(do.scale(x, "skip"), do.style(x), "dense"), "wide"
    ),
    "norm, styled": lambda do, x: do.style_relu(do.norm_relu(x, "norm"), do.style(x), "dense"),
    "style of a sum": lambda do, x: do.style_relu(
        x, do.style(do.add(do.conv(x, "wide"), x)), "dense"
    ),
    "style of doubled": lambda do, x: do.style_relu(x, do.style(do.upsample(x)), "dense"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_held_back_changes_nothing(name):
    check(*both(folded(32, 32), numbers(32, 6, 10, seed=9), CHAINS[name]))


@pytest.mark.parametrize("name", ["conv, relu", "conv + narrow, relu", "doubled, norm, conv"])
def test_old_numbers_in_memory_change_nothing(name, monkeypatch):
    take = Memory.take

    def poisoned(self, size):
        array = take(self, size)
        array[:] = np.nan
        return array

    monkeypatch.setattr(Memory, "take", poisoned)
    check(*both(folded(32, 32), numbers(32, 10, 14), CHAINS[name]))


def test_a_sum_that_is_read_twice_is_computed_once(monkeypatch):
    computed = []
    convolve = operations_room.convolve
    monkeypatch.setattr(
        operations_room, "convolve", lambda *a, **k: computed.append(1) or convolve(*a, **k)
    )
    do = Operations(folded(32, 32))
    total = do.conv(do.read(numbers(32, 8, 8)), "wide")
    do.pool(total), do.style(total), do.norm_relu(total, "norm")
    assert len(computed) == 1


def test_two_pictures_without_a_convolution_are_not_added():
    do = Operations(folded(32, 32))
    x = do.read(numbers(32, 4, 4))
    with pytest.raises(TypeError, match="convolution"):
        do.add(x, x)


def test_nan_stays():
    tile = numbers(32, 8, 8)
    tile[3, 4, 4] = np.nan
    do = Operations(folded(32, 32))
    assert np.isnan(do.written(do.relu(do.conv(do.read(tile), "wide")), 32)[:, 4, 4]).all()


def test_rounding_is_as_small_as_that_of_a_plain_convolution():
    """Within five times; with the usual points 1 and 2 it is eight."""
    weights, tile = folded(64, 64), numbers(64, 40, 40)
    found, exact = both(weights, tile, lambda do, x: do.conv(x, "wide"))
    plain = conv2d(
        from_numpy(tile[np.newaxis]),
        from_numpy(weights["wide.weight"]),
        from_numpy(weights["wide.bias"]),
        padding=1,
    )
    ours, theirs = (np.sqrt(np.square(a - exact).mean()) for a in (found, plain[0].numpy()))
    assert ours < 5 * theirs


# Kernels on disk


def test_kernels_on_disk_are_good_for_the_same_sources_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    x = Operations({}).read(numbers(1, 2, 2))

    def is_found(sources):
        kernel = convolution._kernels(sources).pool
        kernel(x, np.empty(COLUMNS, np.float32))
        return sum(kernel.stats.cache_hits.values()) == 1

    assert [is_found(sources) for sources in ("old", "old", "new")] == [False, True, False]


# Memory


def test_memory_is_lent_again_once_nothing_refers_to_it():
    memory = Memory()
    array = memory.take(100)
    place, view = array.ctypes.data, array.reshape(10, 10)[2:]
    del array
    gc.collect()
    other = memory.take(100)
    assert other.ctypes.data != place
    del view
    gc.collect()
    assert memory.take(100).ctypes.data == place


def test_memory_of_another_size_is_another():
    memory = Memory()
    memory.take(100)
    assert memory.take(50).size == 50


def test_memory_for_tiles_of_one_shape_is_kept_and_that_of_others_given_up(monkeypatch):
    do, made, block = Operations(folded(32, 32)), [], memory_room._block
    monkeypatch.setattr(memory_room, "_block", lambda size: made.append(size) or block(size))

    def blocks_for(*shape):
        made.clear()
        do.relu(do.conv(do.read(numbers(32, *shape)), "wide"))
        return len(made), weakref.ref(do._memory)

    (some, first), (none, second) = blocks_for(16, 16), blocks_for(16, 16)
    assert some > none == 0
    assert first() is second() is not None
    blocks_for(16, 32)
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("size", [1, 31, 4096])
def test_memory_starts_with_a_cache_line(size):
    arrays = [Memory().take(size) for _ in range(5)] + [aligned(numbers(size))]
    for array in arrays:
        assert array.ctypes.data % memory_room._CACHE_LINE == 0
        assert (array.dtype, array.shape, array.flags.writeable) == (np.float32, (size,), True)


def test_an_aligned_copy_is_equal():
    values = numbers(3, 5, 7)
    np.testing.assert_array_equal(aligned(values), values)


def test_no_two_threads_are_lent_the_same():
    memory, wrong = Memory(), []

    def work(number):
        for _ in range(500):
            array = memory.take(64)
            array[:] = number
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

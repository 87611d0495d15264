"""Metrics of more than one value, against NumPy and SciPy."""

import numpy as np
import pytest
from scipy.stats import entropy


@pytest.mark.parametrize("levels", [2, 16, None])
@pytest.mark.parametrize("positions", [(), (7,), (3, 5)])
def test_bits_and_usage_of_codes(levels, positions):
    from telemetry.metrics import CodeCounts

    rng = np.random.default_rng(1)
    spread = [0.4, 1.5, 4.0]
    code = np.round(rng.normal(0 if levels is None else (levels - 1) / 2, spread, (100, *positions, 3)))
    code = code if levels is None else np.clip(code, 0, levels - 1)
    counts = CodeCounts(3, levels)
    for batch in np.split(code.astype("float32"), [32, 64, 96]):
        counts.update_state(batch)
    units = code.reshape(-1, 3).T
    bits = [entropy(np.unique(unit, return_counts=True)[1], base=2) for unit in units]
    exist = levels or code.max() - code.min() + 1
    np.testing.assert_allclose(counts.result()["bits"], sum(bits) * np.prod(positions), rtol=1e-4)
    np.testing.assert_allclose(
        counts.result()["code_usage"], np.mean([len(np.unique(unit)) / exist for unit in units]), rtol=1e-6
    )


def test_codes_beyond_what_is_counted_do_no_harm():
    from telemetry.metrics import LARGEST_CODE, CodeCounts

    counts = CodeCounts(2, None)
    counts.update_state(np.array([[1e9, -1e9], [LARGEST_CODE, -LARGEST_CODE]], "float32"))
    assert counts.result()["bits"] == 0
    assert np.asarray(counts.counts).sum() == 4


def test_code_counts_start_anew():
    from telemetry.metrics import CodeCounts

    counts = CodeCounts(1, 2)
    counts.update_state(np.array([[0.0], [1.0]], "float32"))
    assert counts.result()["bits"] == 1
    counts.reset_state()
    counts.update_state(np.array([[1.0], [1.0]], "float32"))
    assert counts.result()["bits"] == 0


def test_means_weigh_every_example_alike():
    from telemetry.metrics import Means

    values = np.random.default_rng(0).normal(size=(10, 2)).astype("float32")
    means = Means(["a", "b"], name="means")
    for batch in (values[:7], values[7:]):
        means.update_state({"b": batch[:, 1], "a": batch[:, 0]})
    np.testing.assert_allclose([means.result()["a"], means.result()["b"]], values.mean(axis=0), rtol=1e-5)


def test_psnr():
    from telemetry.metrics import psnr_db

    x = np.full((3, 4, 5, 1), 0.25, "float32")
    error = np.sqrt(np.array([0.01, 1.0, 0.0], "float32")).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(psnr_db(x, x + error), [20, 0, 100], atol=1e-4)


def test_grid_shows_each_original_above_its_reconstruction():
    from telemetry.images import grid

    x = np.arange(17, dtype="float32").reshape(17, 1, 1, 1) / 100
    picture = grid(x, x + 0.5, scale=1)
    assert picture.shape == (2 * 2 * 3, 8 * 3, 1)
    centres = picture[1::3, 1::3, 0]
    np.testing.assert_allclose(centres[0], np.arange(8) / 100, atol=1e-6)
    np.testing.assert_allclose(centres[1], np.arange(8) / 100 + 0.5, atol=1e-6)
    np.testing.assert_allclose(centres[2], np.arange(8, 16) / 100, atol=1e-6)

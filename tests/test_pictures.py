"""The pictures of a close-up, against what they should show."""

import numpy as np
import pytest
from matplotlib.patches import StepPatch


def steps(figure):
    """The heights of the drawn steps, by label."""
    patches = [patch for axis in figure.axes for patch in axis.patches if isinstance(patch, StepPatch)]
    return {patch.get_label(): patch.get_data().values for patch in patches}


@pytest.fixture
def means():
    rng = np.random.default_rng(0)
    share = rng.uniform(size=(3, 4))
    share[1, 2] = share[:, 0] = 0
    share /= share.sum(axis=1, keepdims=True)
    dcode, du = np.where(share > 0, rng.uniform(1, 2, (2, 3, 4)), np.nan)
    return {"share": share, "dL_dcode": dcode, "dL_du": du}


def test_staircase_shows_each_unit_and_the_mean_of_all_u_in_a_place(means):
    from telemetry.pictures import staircase

    figure = staircase(means)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array().filled(np.nan), means["dL_du"])
    drawn = steps(figure)
    np.testing.assert_allclose(drawn["share of u"], means["share"].sum(axis=0) / 3, atol=1e-9)
    for label, name in (("|dL/dcode|: arrives", "dL_dcode"), ("|dL/du|: gets through", "dL_du")):
        assert np.isnan(drawn[label][0]), "no u was there"
        for place in (1, 2, 3):
            there = means["share"][:, place] > 0
            expected = np.average(means[name][there, place], weights=means["share"][there, place])
            np.testing.assert_allclose(drawn[label][place], expected)


def test_histograms_are_by_unit_over_all_positions():
    from telemetry.pictures import BINS, histograms

    values = np.random.default_rng(0).normal([0, 5], 1, (50, 7, 2))
    figure = histograms({"u": values, "dL_du": np.zeros((50, 7, 2))})
    assert [axis.get_title() for axis in figure.axes] == ["u", "dL/du"]
    image = figure.axes[0].images[0]
    left, right = image.get_extent()[:2]
    shares = np.asarray(image.get_array()) ** 2
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    centres = left + (np.arange(BINS) + 0.5) * (right - left) / BINS
    np.testing.assert_allclose(shares @ centres, [0, 5], atol=0.1)

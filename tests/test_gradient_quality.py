"""Gradient quality against brute force in NumPy, float64."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

SHAPE = (4, 3, 1)
EXAMPLES = 3


def toy(units, levels, normalize, rounding=None, seed=0, spread=1.0):
    """An autoencoder of one layer each way, and its weights as float64 arrays."""
    import keras
    import tensorflow as tf

    from models.autoencoder import Autoencoder
    from models.latent import Latent

    keras.utils.set_random_seed(seed)
    encoder = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(units, kernel_initializer="he_normal")]
    )
    decoder = keras.Sequential([keras.Input((units,)), keras.layers.Dense(12, "sigmoid"), keras.layers.Reshape(SHAPE)])
    autoencoder = Autoencoder(encoder, Latent(units=units, levels=levels, normalize=normalize), tf.identity, decoder)
    autoencoder.rounding = rounding or tf.identity
    rng = np.random.default_rng(seed)
    for weight in [*encoder.weights, *autoencoder.latent.weights, *decoder.weights]:
        if "kernel" not in weight.path:  # so that normalisation and biases are not those of the start
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(spread * weight)
    x = rng.uniform(size=(EXAMPLES, *SHAPE)).astype("float32")
    return autoencoder, x


def quality_of(autoencoder, x, seed=0):
    from models.losses import squared_error
    from telemetry.gradient_quality import GradientQuality

    return GradientQuality(autoencoder, squared_error, x, seed)


def measured(autoencoder, x, number=0):
    values = quality_of(autoencoder, x).measure(number)
    return {tag.removeprefix("gradient_quality/"): value for tag, value in values.items()}


def of_the_gradient(values):
    """Without what is measured of the loss."""
    return {name: value for name, value in values.items() if name != "relaxation_gap"}


class ByHand:
    """The toy in NumPy; `weights` are those that the reference is a gradient of."""

    def __init__(self, autoencoder, x):
        self.x = x.reshape(len(x), -1).astype("float64")
        self.levels = autoencoder.latent.levels
        self.normalization = autoencoder.latent.normalization
        variables = [*autoencoder.encoder.trainable_variables, *autoencoder.latent.trainable_variables]
        self.weights = [v.numpy().astype("float64") for v in variables]
        if self.normalization is not None:
            self.mean = self.normalization.moving_mean.numpy().astype("float64")
            self.variance = self.normalization.moving_variance.numpy().astype("float64")
        self.kernel, self.bias = (v.numpy().astype("float64") for v in autoencoder.decoder.trainable_variables)

    def u(self, weights):
        z = self.x @ weights[0] + weights[1]
        if self.normalization is not None:
            z = weights[2] * (z - self.mean) / np.sqrt(self.variance + 1e-3) + weights[3]
        return (self.levels - 1) * expit(z) if self.levels else z

    def losses(self, code):
        centred = 2 * code / (self.levels - 1) - 1 if self.levels else code / 2
        return ((expit(centred @ self.kernel + self.bias) - self.x) ** 2).mean(axis=1)

    def relaxed(self, weights):
        u = self.u(weights)
        m = np.floor(u)
        total = 0
        for bits in itertools.product([0, 1], repeat=u.shape[1]):
            chance = np.where(bits, u - m, 1 - (u - m)).prod(axis=1)
            total = total + chance * self.losses(m + np.array(bits))
        return total.mean()

    def soft(self, weights, strategy):
        return self.losses(strategy(self.u(weights))).mean()

    def gradient(self, function):
        """By central differences, flat."""
        gradient = []
        for number, weight in enumerate(self.weights):
            for place in np.ndindex(weight.shape):
                values = []
                for step in (1e-6, -1e-6):
                    moved = [w.copy() for w in self.weights]
                    moved[number][place] += step
                    values.append(function(moved))
                gradient.append((values[0] - values[1]) / 2e-6)
        return np.array(gradient)


def true(draws, reference):
    """Cosine, bias, variance of a strategy's gradients `[draws, weights]` in all."""
    length = np.linalg.norm(reference)
    mean = draws.mean(axis=0)
    return {
        "cosine": np.mean(draws @ reference / np.linalg.norm(draws, axis=1)) / length,
        "bias": np.linalg.norm(mean - reference) / length,
        "variance": ((draws - mean) ** 2).sum(axis=1).mean() / length**2,
    }


LATENTS = [(4, 2, False), (4, 2, True), (3, 5, False), (3, 5, True), (3, None, True)]


@pytest.mark.parametrize(("units", "levels", "normalize"), LATENTS)
def test_exact_reference_and_soft_gradient_are_those_of_brute_force(units, levels, normalize):
    autoencoder, x = toy(units, levels, normalize, lambda u: u * u / 2)
    by_hand = ByHand(autoencoder, x)
    quality = quality_of(autoencoder, x)
    u = quality._encode()
    reference = by_hand.gradient(by_hand.relaxed)
    soft = by_hand.gradient(lambda weights: by_hand.soft(weights, lambda u: u * u / 2))
    largest = np.abs(reference).max()
    np.testing.assert_allclose(
        quality._encoder_gradient(quality._exact(u)[1]), reference, rtol=1e-3, atol=1e-4 * largest
    )
    strategy = quality._encoder_gradient(quality._strategy(u, np.zeros(2, "int32")))
    np.testing.assert_allclose(strategy, soft, rtol=1e-3, atol=1e-4 * np.abs(soft).max())
    values = measured(autoencoder, x)
    for name, value in true(soft[None], reference).items():
        np.testing.assert_allclose(values[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert values["cosine_error"] == 0
    gap = by_hand.relaxed(by_hand.weights) - by_hand.soft(by_hand.weights, np.rint)
    np.testing.assert_allclose(values["relaxation_gap"], gap, rtol=1e-3, atol=1e-6)


def sampled(monkeypatch, flips=3):
    """Puts small latents onto the sampled path."""
    from telemetry import gradient_quality

    monkeypatch.setattr(gradient_quality, "EXACT", 0)
    monkeypatch.setattr(gradient_quality, "FLIPS", flips)


@pytest.mark.parametrize(("units", "levels"), [(8, 2), (8, 4)])
def test_sampled_reference_is_unbiased(monkeypatch, units, levels):
    sampled(monkeypatch)
    quality = quality_of(*toy(units, levels, True, spread=3.0))
    u = quality._encode()
    exact = np.asarray(quality._exact(u)[1])
    curvatures = [3 * quality._curvature(u, np.array([1, number], "int32")) for number in range(20)]  # any will do
    seeds = [np.array([2, number], "int32") for number in range(400)]
    estimates = [np.asarray(quality._sampled(u, seed, curvatures[seed[1] % 20])[1]) for seed in seeds]
    error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert error.max() < 0.25 * np.abs(exact).max()
    off = (np.mean(estimates, axis=0) - exact) / error
    assert np.sqrt(np.mean(off**2)) < 1.5
    assert np.abs(off).max() < 4.5


def test_curvature_makes_the_sampled_reference_quieter(monkeypatch):
    sampled(monkeypatch, flips=1)
    autoencoder, x = toy(8, 4, False)
    for layer in autoencoder.decoder.layers:
        layer.activation = None  # a squared error that is quadratic in the code
    quality = quality_of(autoencoder, x)
    u = quality._encode()
    kernel = autoencoder.decoder.trainable_variables[0].numpy()
    true_curvature = 2 * ((2 / 3 * kernel) ** 2).mean(axis=1)  # codes are centred to 2/3 code - 1
    pilots = [quality._curvature(u, np.array([1, number], "int32")) for number in range(100)]
    np.testing.assert_allclose(np.mean(pilots, axis=0), true_curvature, rtol=0.3)

    def variance(curvature):
        seeds = [np.array([2, number], "int32") for number in range(40)]
        return np.var([quality._sampled(u, seed, curvature)[1] for seed in seeds], axis=0).sum()

    right = variance(true_curvature.astype("float32"))
    assert right < 0.5 * variance(np.zeros(8, "float32"))


def test_sampled_values_and_their_error_are_true(monkeypatch):
    autoencoder, x = toy(8, 2, False, spread=2.0)
    exact = measured(autoencoder, x)
    sampled(monkeypatch, flips=4)
    quality = quality_of(autoencoder, x)
    runs = [{tag.split("/")[1]: value for tag, value in quality.measure(n).items()} for n in range(60)]
    means = {name: np.mean([run[name] for run in runs]) for name in runs[0]}
    spread = np.std([run["cosine"] for run in runs])
    assert 0 < means["cosine_error"] < 0.15
    assert 0.6 < spread / means["cosine_error"] < 1.6
    assert abs(means["cosine"] - exact["cosine"]) < 4 * spread / np.sqrt(60)
    assert abs(means["bias"] - exact["bias"]) < 0.05 * exact["bias"]
    assert means["variance"] == exact["variance"] == 0
    spread = np.std([run["relaxation_gap"] for run in runs])
    assert abs(means["relaxation_gap"] - exact["relaxation_gap"]) < 4 * spread / np.sqrt(60)


@pytest.mark.parametrize("levels", [2, 4, None])
def test_finite_and_right_at_the_ends_of_a_cell(monkeypatch, levels):
    autoencoder, x = toy(4, levels, False)
    quality = quality_of(autoencoder, x)
    by_hand = ByHand(autoencoder, x)
    top = levels - 1 if levels else 3
    u = np.array([[0, top, 0.25, top - 0.5], [top, top, 0, 0], [1, 0.5, 1, top]], "float32")
    exact = np.asarray(quality._exact(u)[1])
    m = np.clip(np.floor(u), 0, top - 1 if levels else None)
    expected = np.zeros(u.shape)
    for unit in range(4):  # multilinear in t: a difference over the whole cell is the slope
        for bits in itertools.product([0, 1], repeat=4):
            chance = np.where(bits, u - m, 1 - (u - m))
            chance[:, unit] = 2 * bits[unit] - 1
            expected[:, unit] += chance.prod(axis=1) * by_hand.losses(m + np.array(bits))
    np.testing.assert_allclose(exact, expected, rtol=1e-3, atol=1e-6)
    sampled(monkeypatch, flips=4)
    ends = np.array([[0, top, 1, 0], [top, top, 0, 0], [1, 0, 1, top]], "float32")  # nothing is left to chance
    estimates = quality._sampled(ends, np.array([0, 1], "int32"), np.ones(4, "float32"))
    for estimate, true_value in zip(estimates, quality._exact(ends), strict=True):
        np.testing.assert_allclose(estimate, true_value, rtol=1e-3, atol=1e-6)


def test_random_strategy_against_many_draws():
    from rounding.uniform_noise import uniform_noise

    autoencoder, x = toy(3, 5, False, uniform_noise)
    autoencoder.random = True
    by_hand = ByHand(autoencoder, x)
    rng = np.random.default_rng(1)
    noise = rng.uniform(-0.5, 0.5, (200, EXAMPLES, 3))
    draws = [by_hand.gradient(lambda w, n=n: by_hand.soft(w, lambda u: u + n)) for n in noise]
    expected = true(np.array(draws), by_hand.gradient(by_hand.relaxed))
    quality = quality_of(autoencoder, x)
    runs = [quality.measure(number) for number in range(40)]
    for name, value in expected.items():
        values = [run[f"gradient_quality/{name}"] for run in runs]
        tolerance = 4 * np.std(values) / np.sqrt(40) + 0.05 * abs(value)
        assert abs(np.mean(values) - value) < tolerance, name
    stated = np.mean([run["gradient_quality/cosine_error"] for run in runs])
    assert 0.6 < np.std([run["gradient_quality/cosine"] for run in runs]) / stated < 1.6
    assert expected["variance"] > 0.01


def scaled_reference(quality, factor):
    """A strategy whose gradient is that of the relaxation, times a factor."""
    import tensorflow as tf

    def strategy(u):
        slope = tf.stop_gradient(tf.math.divide_no_nan(factor * quality._exact(u)[1], quality._slope(u)[1]))
        return slope * u + tf.stop_gradient(u - slope * u)

    return strategy


def test_twice_the_reference_points_the_same_way_and_is_off_by_its_length():
    autoencoder, x = toy(4, 2, True)
    autoencoder.rounding = scaled_reference(quality_of(autoencoder, x), 2.0)
    expected = {"cosine": 1, "cosine_error": 0, "bias": 1, "variance": 0}
    assert of_the_gradient(measured(autoencoder, x)) == pytest.approx(expected, abs=1e-3)
    autoencoder.rounding = scaled_reference(quality_of(autoencoder, x), 1.0)
    assert of_the_gradient(measured(autoencoder, x)) == pytest.approx({**expected, "bias": 0}, abs=1e-2)


@pytest.mark.parametrize("units", [4, 12])
def test_hard_passes_nothing(units):
    import tensorflow as tf

    from rounding.hard import hard

    for rounding in (hard, tf.round):
        values = of_the_gradient(measured(*toy(units, 2, True, rounding)))
        assert values == pytest.approx({"cosine": 0, "cosine_error": 0, "bias": 1, "variance": 0})


def test_noise_that_hides_the_reference_is_no_number():
    from telemetry.gradient_quality import compare

    noise = np.array([[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]])
    assert np.isnan(list(compare(noise, 2).values())).all()
    assert np.isnan(list(compare(np.diag([0.0, 1.0]), 1).values())).all()


def test_same_number_same_values():
    from rounding.uniform_noise import uniform_noise

    autoencoder, x = toy(12, 2, True, uniform_noise)
    autoencoder.random = True
    quality = quality_of(autoencoder, x)
    first = quality.measure(3)
    other = quality.measure(4)
    assert quality.measure(3) == first == quality_of(autoencoder, x).measure(3)
    assert all(first[tag] != other[tag] != 0 for tag in first)
    assert quality_of(autoencoder, x, seed=1).measure(3) != first


def test_noise_of_a_measurement_is_not_reused():
    from telemetry import gradient_quality

    autoencoder, x = toy(12, 2, True, lambda u, seed: u)
    autoencoder.random = True
    quality = quality_of(autoencoder, x, seed=7)
    seen = []

    def watched(original):
        def watching(u, seed, *rest):
            seen.append(tuple(int(word) for word in seed))
            return original(u, seed, *rest)

        return watching

    for name in ("_curvature", "_sampled", "_strategy"):
        setattr(quality, name, watched(getattr(quality, name)))
    for number in range(2):
        quality.measure(number)
    assert len(seen) == len(set(seen)) == 2 * (1 + gradient_quality.GROUPS + gradient_quality.DRAWS)
    assert all(run == 7 and number < -(2**29) for run, number in seen)


@pytest.mark.parametrize("units", [4, 12])
def test_nothing_changes_and_nothing_is_traced_again(units):
    import random

    import keras
    import tensorflow as tf

    autoencoder, x = toy(units, 2, True)
    optimizer = keras.optimizers.Adam()
    optimizer.build(autoencoder.trainable_variables)
    everything = [*autoencoder.variables, *optimizer.variables]
    tf.random.set_seed(1)
    before = [variable.numpy() for variable in everything], np.random.get_state()[2], random.getstate()
    quality = quality_of(autoencoder, x)
    quality.measure(0)
    traced = [quality._encode, quality._encoder_gradient, quality._slope, quality._loss, quality._sampled]
    counts = [function.experimental_get_tracing_count() for function in traced]
    quality.measure(1)
    assert [function.experimental_get_tracing_count() for function in traced] == counts
    assert max(counts) == 1
    for variable, value in zip(everything, before[0], strict=True):
        np.testing.assert_array_equal(variable, value)
    assert (np.random.get_state()[2], random.getstate()) == before[1:]
    drawn = tf.random.uniform([])
    tf.random.set_seed(1)
    assert drawn == tf.random.uniform([]), "TensorFlow's own random state has not moved"


def test_follows_the_weights():
    autoencoder, x = toy(4, 2, True)
    quality = quality_of(autoencoder, x)
    first = quality.measure(0)
    autoencoder.encoder.trainable_variables[0].assign_add(np.full((12, 4), 0.3, "float32"))
    assert quality.measure(0) != first
    assert quality.measure(0) == quality_of(autoencoder, x).measure(0)


def test_codes_are_decoded_a_bounded_number_at_once(monkeypatch):
    from telemetry import gradient_quality

    autoencoder, x = toy(6, 2, True)
    whole = measured(autoencoder, x)
    monkeypatch.setattr(gradient_quality, "ELEMENTS", 4 * x.size)
    quality = quality_of(autoencoder, x)
    rows = []
    inner = quality.loss
    quality.loss = lambda x, x_hat: rows.append(x_hat.shape[0]) or inner(x, x_hat)
    values = {tag.split("/")[1]: value for tag, value in quality.measure(0).items()}
    assert max(rows) == 4 * EXAMPLES
    assert values == pytest.approx(whole, abs=1e-4)
    monkeypatch.setattr(gradient_quality, "ELEMENTS", 1)
    assert measured(autoencoder, x) == pytest.approx(whole, abs=1e-4), "less than a batch at once is not possible"


def test_audio_has_positions():
    import hydra
    from test_models import TINY_AUDIO, build

    from conf import compose
    from telemetry.gradient_quality import GradientQuality

    autoencoder = build(*TINY_AUDIO, shape=(256, 1))
    x = np.sin(np.arange(512).reshape(2, 256, 1) / 5).astype("float32")
    loss = hydra.utils.instantiate(compose(["data=espeak_digits"]).loss)
    quality = GradientQuality(autoencoder, loss, x, 0)
    u = quality._encode()
    assert quality.codes == u.shape[1] * u.shape[2] > quality._curvature(u, np.zeros(2, "int32")).shape[0]
    values = np.array(list(quality.measure(0).values()))
    assert np.isfinite(values).all() or np.isnan(values).all()

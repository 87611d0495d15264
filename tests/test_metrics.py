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


# Audio


def clips(count=3, samples=1000, seed=0):
    """Noise of different loudness that decays, and a silent clip."""
    noise = np.random.default_rng(seed).normal(0, 0.2, (count, samples, 1)) * np.exp(-np.arange(samples) / 200)[:, None]
    return np.concatenate([noise * np.array([1, 0.1, 0.01])[:, None, None], np.zeros((1, samples, 1))]).astype(
        "float32"
    )


def spectra(x, frame_length):
    """Magnitudes `[batch, frames, frequencies]` from -60 dB up, by SciPy in float64; a full-scale sine has 1."""
    from scipy.signal import get_window

    step = frame_length // 4
    frames = -(-x.shape[1] // step)
    padded = np.pad(x[..., 0].astype("float64"), [(0, 0), (0, frame_length)])
    cut = np.stack([padded[:, i * step : i * step + frame_length] for i in range(frames)], axis=1)
    window = get_window("hann", frame_length)
    return np.maximum(np.abs(np.fft.rfft(cut * window)) * 2 / window.sum(), 1e-3)


@pytest.mark.parametrize("frame_length", [64, 256, 1024, 2048])
def test_magnitudes(frame_length):
    from models.losses import magnitude

    x = clips()
    np.testing.assert_allclose(magnitude(x, frame_length), spectra(x, frame_length), rtol=2e-3, atol=1e-6)


def test_a_sine_at_full_scale_has_magnitude_one():
    from models.losses import magnitude

    sine = np.sin(2 * np.pi * np.arange(4096) / 16).astype("float32")[None, :, None]
    spectrum = np.asarray(magnitude(sine, 256))[0, 5]
    np.testing.assert_allclose(spectrum.max(), 1, rtol=1e-5)
    assert spectrum.argmax() == 16


def test_log_spectral_distance():
    from telemetry.metrics import log_spectral_distance_db

    x, x_hat = clips(seed=0), clips(seed=1)[::-1].copy()
    difference = 20 * np.log10(spectra(x, 256) / spectra(x_hat, 256))
    expected = np.sqrt((difference**2).mean(axis=-1)).mean(axis=-1)
    np.testing.assert_allclose(log_spectral_distance_db(x, x_hat), expected, rtol=1e-3)
    np.testing.assert_allclose(log_spectral_distance_db(x, x), 0, atol=1e-6)


@pytest.mark.parametrize("gain", [1, -0.3, 5])
def test_si_sdr(gain):
    from telemetry.metrics import si_sdr_db

    x = clips()[:3]
    x_hat = (gain * x + np.array([1e-1, 1e-3, 1e-4])[:, None, None] * clips(seed=1)[[0, 0, 0]]).astype("float32")
    expected = []
    for a, b in zip(x[..., 0].astype("float64"), x_hat[..., 0].astype("float64"), strict=True):
        target = np.dot(a, b) / np.dot(a, a) * a
        expected.append(10 * np.log10(np.sum(target**2) / np.sum((b - target) ** 2)))
    np.testing.assert_allclose(si_sdr_db(x, x_hat), expected, rtol=1e-3, atol=1e-3)
    assert np.ptp(expected) > 5


def test_si_sdr_where_there_is_no_signal_or_no_error():
    from telemetry.metrics import si_sdr_db

    x = clips()
    silent = np.zeros_like(x)
    np.testing.assert_allclose(si_sdr_db(silent, silent), 0, atol=1e-4)
    np.testing.assert_array_equal(si_sdr_db(silent, x), 0)
    assert np.all(np.asarray(si_sdr_db(x, silent))[:3] == 0)
    assert np.all(np.asarray(si_sdr_db(x, x))[:2] > 80)
    for pair in ((silent, silent), (silent, x), (x, silent), (x, x)):
        assert np.isfinite(si_sdr_db(*pair)).all()


@pytest.mark.parametrize("clip_seconds", [0.5, 1, 4])
def test_bits_per_second(clip_seconds):
    from telemetry.audio import Audio

    assert Audio(8000, clip_seconds).rates(100.0) == {"bits_per_second": 100 / clip_seconds}


def test_spectral_loss():
    from models.losses import spectral

    x, x_hat = clips(seed=0), clips(seed=1)
    error = ((x - x_hat).astype("float64") ** 2).mean(axis=(1, 2)) / (
        (x.astype("float64") ** 2).mean(axis=(1, 2)) + 0.01
    )
    distances = [np.abs(np.log(spectra(x, n)) - np.log(spectra(x_hat, n))).mean(axis=(1, 2)) for n in (32, 256)]
    ours = spectral(x, x_hat, quiet=0.01, weight=0.5, frame_lengths=[32, 256])
    np.testing.assert_allclose(ours, error + 0.5 * np.mean(distances, axis=0), rtol=1e-3)


def test_losses_have_finite_gradients_in_silence_and_zero_at_the_truth():
    import tensorflow as tf

    from models.losses import spectral

    for x, x_hat in ((clips(), np.zeros_like(clips())), (np.zeros_like(clips()), clips()), (clips(), clips())):
        x_hat = tf.Variable(x_hat)
        with tf.GradientTape() as tape:
            loss = spectral(x, x_hat, quiet=0.003, weight=1.0, frame_lengths=[64, 256])
        assert np.isfinite(tape.gradient(loss, x_hat)).all()
    np.testing.assert_array_equal(loss, 0)


def test_spectrograms_show_each_original_above_its_reconstruction():
    from telemetry.audio import spectrograms

    low, high = (np.sin(2 * np.pi * f * np.arange(8000) / 8000).astype("float32")[None, :, None] for f in (500, 3500))
    picture = spectrograms(np.concatenate([low, high]), np.concatenate([high, low]), 8000).astype(float)
    assert picture.shape[-1] == 3
    yellow = np.argwhere((picture[..., 0] > 180) & (picture[..., 2] < 90))  # the loudest end of the colours
    rows, columns = yellow[yellow[:, 1] < 0.9 * picture.shape[1]].T  # without the colour bar
    left, middle = columns < picture.shape[1] * 0.45, picture.shape[0] / 2
    upper = rows < middle
    assert rows[left & upper].mean() > rows[~left & upper].mean() + 50, "low frequencies are further down"
    assert rows[left & ~upper].mean() < rows[~left & ~upper].mean() - 50

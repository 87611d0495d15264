"""Latents and models against NumPy and SciPy, and one training step against a gradient worked out by hand."""

import functools
import itertools

import numpy as np
import pytest
from conftest import members
from omegaconf import OmegaConf
from scipy.special import expit
from strategies import BY_NAME, RANDOM

from conf import compose

SHAPE = (28, 28, 1)

composed = functools.cache(lambda *overrides: compose(overrides))  # Hydra takes a tenth of a second each time


def build(*overrides, rounding="straight_through", shape=SHAPE):
    """The autoencoder of a configuration, for 100 steps."""
    from models.build import make_autoencoder

    cfg = composed(*overrides).copy()
    if not any(word.startswith("rounding") for word in overrides):
        cfg.rounding = BY_NAME[rounding].config  # composed already
    return make_autoencoder(cfg, shape, 100)


def trainer_of(autoencoder, batch_size, optimizer, data="mnist_5k", steps=1, **settings):
    import hydra

    from models.autoencoder import Trainer
    from telemetry.media import media_of

    cfg = composed(f"data={data}")
    media = media_of(cfg.data, autoencoder.encoder.input_shape[1:])
    trainer = Trainer(autoencoder, hydra.utils.instantiate(cfg.loss), media, batch_size, steps)
    optimizer.build(autoencoder.trainable_variables)
    trainer.compile(optimizer=optimizer, **settings)
    return trainer


# Latents


LATENTS = [("binary", 2, None), ("integer", 16, None), ("integer", 5, None), ("integer", None, 3.0)]


def latent_of(name, levels, scale, normalize=False):
    import hydra

    overrides = [f"latent={name}", "latent.units=4", f"latent.normalize={normalize}"]
    if name == "integer":
        overrides += [f"latent.levels={levels or 'null'}", f"latent.scale={scale or 1}"]
    return hydra.utils.instantiate(composed(*overrides).latent)


def test_every_latent_is_tested():
    assert {name for name, _, _ in LATENTS} == set(members("latent"))


@pytest.mark.parametrize(("name", "levels", "scale"), LATENTS)
def test_latent_maps_z_to_code_units(name, levels, scale):
    z = np.random.default_rng(0).normal(0, 4, (50, 3, 4)).astype("float32")
    expected = (levels - 1) * expit(z.astype("float64")) if levels else scale * z.astype("float64")
    np.testing.assert_allclose(latent_of(name, levels, scale)(z), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "levels", "scale"), LATENTS)
def test_every_code_can_be_reached_and_is_centred_in_one(name, levels, scale):
    latent = latent_of(name, levels, scale)
    z = np.linspace(-30, 30, 4001, dtype="float32")[:, None].repeat(4, axis=1)
    code = np.round(latent(z))
    centred = np.asarray(latent.centre(code))
    if levels:
        assert np.unique(code).tolist() == list(range(levels))
        assert (centred.min(), centred.max()) == (-1, 1)
    np.testing.assert_allclose(np.diff(np.unique(centred)), 2 / (levels - 1) if levels else 1 / (2 * scale), rtol=1e-4)


@pytest.mark.parametrize(("name", "levels", "scale"), LATENTS)
def test_normalisation_takes_the_batchs_mean_and_deviation_in_training(name, levels, scale):
    z = np.random.default_rng(0).normal(5, 3, (200, 7, 4)).astype("float32")
    normal = (z - z.mean(axis=(0, 1))) / np.sqrt(z.var(axis=(0, 1)) + 1e-3)
    latent = latent_of(name, levels, scale, normalize=True)
    latent.build(z.shape)
    np.testing.assert_allclose(latent(z, training=True), latent_of(name, levels, scale)(normal), rtol=1e-3, atol=1e-4)


# Models


@pytest.mark.parametrize("model", [name for name in members("model") if name.startswith("image")])
@pytest.mark.parametrize("shape", [SHAPE, (32, 16, 1)])
def test_image_model_returns_images_of_its_inputs_shape(model, shape):
    autoencoder = build(f"model={model}", "latent.units=6", shape=shape)
    x = np.random.default_rng(0).uniform(size=(3, *shape)).astype("float32")
    x_hat = autoencoder(x)
    assert x_hat.shape == x.shape
    assert autoencoder.encode(x).shape == (3, 6)
    assert np.all((np.asarray(x_hat) >= 0) & (np.asarray(x_hat) <= 1))


@pytest.mark.parametrize("model", [name for name in members("model") if name.startswith("image")])
def test_image_model_refuses_audio(model):
    with pytest.raises(ValueError, match=r"needs images .* \[8000, 1\]"):
        build(f"model={model}", shape=(8000, 1))


def test_conv_refuses_sides_that_it_cannot_halve():
    with pytest.raises(ValueError, match="multiples of 4, got 30 x 28"):
        build("model=image_conv", shape=(30, 28, 1))


TINY_AUDIO = ["model=audio_conv", "model.strides=[4,8]", "model.channels=[6,8]", "model.dilations=[1,2]"]


@pytest.mark.parametrize("latent", members("latent"))
@pytest.mark.parametrize(("samples", "frames"), [(8000, 125), (8001, 126), (8063, 126), (100, 2), (3, 1)])
def test_audio_model_compresses_time_and_returns_clips_of_its_inputs_length(latent, samples, frames):
    autoencoder = build("model=audio_conv", f"latent={latent}", "model.channels=[4,4,4]", shape=(samples, 1))
    x = np.random.default_rng(0).uniform(-1, 1, (2, samples, 1)).astype("float32")
    assert autoencoder.encode(x).shape == (2, frames, autoencoder.latent.units)
    assert autoencoder(x).shape == x.shape


@pytest.mark.parametrize(("strides", "frames"), [("[8]", 100), ("[2,2,2,2]", 50), ("[5,4,8]", 5), ("[1,10]", 80)])
def test_strides_give_the_compression_in_time(strides, frames):
    channels = f"[{','.join('4' for _ in strides.split(','))}]"
    autoencoder = build("model=audio_conv", f"model.strides={strides}", f"model.channels={channels}", shape=(800, 1))
    assert autoencoder.encode(np.zeros((1, 800, 1), "float32")).shape[1] == frames
    assert autoencoder(np.zeros((1, 800, 1), "float32")).shape == (1, 800, 1)


def test_audio_model_begins_as_a_linear_transform():
    autoencoder = build(*TINY_AUDIO, shape=(320, 1))
    rng = np.random.default_rng(0)
    for part, shape in ((autoencoder.encoder, (320, 1)), (autoencoder.decoder, (10, autoencoder.latent.units))):
        a, b = rng.normal(size=(2, 1, *shape)).astype("float32")
        np.testing.assert_allclose(part(2 * a - 3 * b), 2 * part(a) - 3 * part(b), atol=1e-4)
        assert np.abs(part(a)).max() > 0.01


def test_audio_decoder_reaches_every_sample_with_as_many_taps():
    autoencoder = build(*TINY_AUDIO, shape=(640, 1))
    for layer in autoencoder.decoder.layers:  # the residual branches are zero at the start
        if "_up_" in layer.name or layer.name == "decoder_units":
            layer.set_weights([np.ones(weight.shape) for weight in layer.weights])
    x_hat = np.asarray(autoencoder.decoder(np.ones((1, 20, autoencoder.latent.units), "float32")))[0, :, 0]
    inside = x_hat[100:-100]
    np.testing.assert_allclose(inside, inside[0], rtol=1e-5)
    assert inside[0] > 0


def test_audio_model_refuses_images_and_uneven_lists():
    with pytest.raises(ValueError, match=r"needs audio .* \[28, 28, 1\]"):
        build("model=audio_conv")
    with pytest.raises(ValueError, match=r"as many model.channels as model.strides, got \[8\] and \[4, 4, 4\]"):
        build("model=audio_conv", "model.channels=[8]", shape=(800, 1))


@pytest.mark.parametrize("latent", members("latent"))
@pytest.mark.parametrize("rounding", members("rounding"))
def test_evaluation_rounds_whatever_the_strategy(latent, rounding):
    autoencoder = build(f"latent={latent}", "model.widths=[16]", rounding=rounding)
    x = np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype("float32")
    code = np.round(np.asarray(autoencoder.encode(x), "float64"))
    np.testing.assert_array_equal(autoencoder(x), autoencoder.decode(code.astype("float32")))


# Training


def closed_form(x, weights, kernel, bias, rounding):
    """Loss and gradients of x -> sigmoid(x W) -> code -> sigmoid(centred code V + b), in float64."""
    u = expit(x @ weights)
    code, slope = rounding(u)
    x_hat = expit((2 * code - 1) @ kernel + bias)
    da = 2 * (x_hat - x) / x.size * x_hat * (1 - x_hat)
    dcode = 2 * da @ kernel.T
    du = dcode * slope
    dw = x.T @ (du * u * (1 - u))
    return (
        np.mean((x - x_hat) ** 2),
        u,
        dcode,
        du,
        {"encoder": [dw], "decoder": [(2 * code - 1).T @ da, da.sum(axis=0)]},
    )


def test_training_step_reports_and_applies_the_gradients_worked_out_by_hand():
    import keras

    from models.autoencoder import Autoencoder
    from models.latent import binary
    from rounding.cubic import cubic

    rng = np.random.default_rng(0)
    x = rng.uniform(size=(6, 4, 4, 1)).astype("float32")
    encoder = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False, name="first")]
    )
    decoder = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(16, "sigmoid", name="last"), keras.layers.Reshape((4, 4, 1))]
    )
    trainer = trainer_of(
        Autoencoder(encoder, binary(units=3, normalize=False), cubic, decoder), 6, keras.optimizers.SGD(0.5)
    )
    before = [w.numpy().astype("float64") for w in trainer.autoencoder.trainable_variables]

    def cubic_by_hand(u):
        r = np.round(u)
        return r + (u - r) ** 3, 3 * (u - r) ** 2

    loss, u, dcode, du, gradients = closed_form(x.reshape(6, 16).astype("float64"), *before, cubic_by_hand)
    trainer.close_up.switch(True)
    with trainer.update_ratios.of_step(0):
        trainer.train_step(x)
    reported = trainer.measured()

    def norm(arrays):
        return np.sqrt(sum((a**2).sum() for a in arrays))

    expected = {
        "loss": loss,
        "gradient_norm/code": norm([dcode]),
        "gradient_norm/u": norm([du]),
        "gradient_norm/encoder": norm(gradients["encoder"]),
        "gradient_norm/decoder": norm(gradients["decoder"]),
        "gradient_norm/layer/first": norm(gradients["encoder"]),
        "gradient_norm/layer/last": norm(gradients["decoder"]),
        "gradient_flow/transmission": norm([du]) / norm([dcode]),
        "gradient_flow/zero_fraction": 0,
        "update_to_weight/first": 0.5 * norm(gradients["encoder"]) / norm(before[:1]),
        "update_to_weight/last": 0.5 * norm(gradients["decoder"]) / norm(before[1:]),
    }
    assert set(reported) == set(expected)
    for tag, value in expected.items():
        np.testing.assert_allclose(reported[tag], value, rtol=1e-4, atol=1e-9, err_msg=tag)
    for name, tensor in {"u": u, "dL_dcode": dcode, "dL_du": du}.items():
        np.testing.assert_allclose(trainer.close_up.last[name], tensor, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(expit(trainer.close_up.last["z"].numpy()), u, rtol=1e-5)
    after = trainer.autoencoder.trainable_variables
    for weight, start, gradient in zip(after, before, itertools.chain(*gradients.values()), strict=True):
        np.testing.assert_allclose(weight, start - 0.5 * gradient, rtol=1e-5, atol=1e-7)


def test_close_up_sorts_gradients_by_unit_and_place():
    import keras
    import tensorflow as tf

    from telemetry.close_up import BINS

    close_up = trainer_of(build("latent.units=3"), 50, keras.optimizers.SGD()).close_up
    rng = np.random.default_rng(0)
    z, u, dcode, du = rng.normal(0, 2, (4, 2, 50, 3)).astype("float32")
    u[0, :3] = [-2, 1 - 1e-7, -1e-9]  # t = 0, almost 1, and 1
    for on in (True, False):
        close_up.switch(on)
        for step in range(2):
            close_up.update_state(*(tf.constant(tensor[step]) for tensor in (z, u, dcode, du)))
    place = np.minimum((u - np.floor(u)) * BINS, BINS - 1).astype(int).reshape(100, 3)
    for name, values in (("share", None), ("dL_dcode", dcode), ("dL_du", du)):
        found = close_up.result()[name].numpy()
        for unit, k in itertools.product(range(3), range(BINS)):
            there = place[:, unit] == k
            if values is None:
                np.testing.assert_allclose(found[unit, k], there.mean(), rtol=1e-5)
            elif there.any():
                mean = np.abs(values.reshape(100, 3)[there, unit]).mean()
                np.testing.assert_allclose(found[unit, k], mean, rtol=1e-5)
            else:
                assert np.isnan(found[unit, k])
    np.testing.assert_array_equal(close_up.last["dL_du"], du[1])
    close_up.switch(True)
    assert np.isnan(close_up.result()["share"]).all(), "starts anew"


def test_update_ratios_are_those_of_an_epochs_last_step():
    import keras

    trainer = trainer_of(build("model.widths=[8]"), 4, keras.optimizers.SGD(0.1), steps=3)
    x = np.random.default_rng(0).uniform(size=(4, *SHAPE)).astype("float32")
    autoencoder = trainer.autoencoder
    layers = [*autoencoder.encoder.layers, autoencoder.latent, *autoencoder.decoder.layers]
    layers = {layer.name: layer for layer in layers if layer.trainable_variables}
    assert len(layers) == 5
    reported, true = [], []
    for number in range(6):
        before = {name: [w.numpy() for w in layer.trainable_variables] for name, layer in layers.items()}
        with trainer.update_ratios.of_step(number):
            trainer.train_step(x)
        logs = trainer.measured()
        reported.append([float(logs[f"update_to_weight/{name}"]) for name in layers])
        true.append([])
        for name, layer in layers.items():
            moved = [w.numpy() - b for w, b in zip(layer.trainable_variables, before[name], strict=True)]
            norms = [np.sqrt(sum((a**2).sum() for a in arrays)) for arrays in (moved, before[name])]
            true[-1].append(norms[0] / norms[1])
    np.testing.assert_allclose(reported[:2], 0)
    np.testing.assert_allclose(reported[2:5], [true[2]] * 3, rtol=1e-4)
    np.testing.assert_allclose(reported[5], true[5], rtol=1e-4)
    assert np.all(np.not_equal(true[2], true[5]))


@pytest.mark.parametrize("latent", members("latent"))
@pytest.mark.parametrize("rounding", members("rounding"))
def test_every_strategy_trains_on_every_latent(latent, rounding):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    autoencoder = build(f"latent={latent}", "model.widths=[32]", "latent.units=8", rounding=rounding)
    trainer = trainer_of(autoencoder, 16, keras.optimizers.Adam(3e-3))
    step = tf.function(trainer.train_step, autograph=False)  # `fit` takes twice as long for a dozen of them
    x = np.random.default_rng(0).uniform(size=(16, *SHAPE)).astype("float32") ** 4
    encoder_before = [w.numpy() for w in autoencoder.encoder.trainable_variables]
    history = []
    for _ in range(12):
        trainer.gradient_flow.reset_state()
        step(tf.constant(x))
        history.append({tag: float(value) for tag, value in trainer.measured().items()})
    assert history[-1]["loss"] < 0.95 * history[0]["loss"]
    assert np.isfinite([list(values.values()) for values in history]).all()
    assert step.experimental_get_tracing_count() == 1
    moving = {tag for tag in history[0] if tag.startswith("rounding/")}
    assert all(history[0][tag] != history[-1][tag] for tag in moving)
    assert bool(moving) == (rounding == "switch" or rounding.endswith("_annealed"))
    weights = zip(autoencoder.encoder.trainable_variables, encoder_before, strict=True)
    moved = any(np.any(weight.numpy() != before) for weight, before in weights)
    # `ramp` lets a gradient through on a window so narrow that a dozen small steps may all miss it.
    assert moved == (min(values["gradient_flow/zero_fraction"] for values in history) < 1)
    assert moved or rounding in ("hard", "ramp")


@pytest.mark.parametrize("latent", members("latent"))
def test_audio_trains_on_every_latent(latent):
    check_audio_trains(latent, "straight_through")


@pytest.mark.parametrize("rounding", members("rounding"))
def test_every_strategy_trains_on_audio(rounding):
    check_audio_trains("integer", rounding)


def loss_of_step(trainer, x):
    trainer.gradient_flow.reset_state()
    trainer.train_step(x)
    return float(trainer.measured()["loss"])


def check_audio_trains(latent, rounding):
    import keras

    keras.utils.set_random_seed(0)
    one_stage = ["model=audio_conv", "model.strides=[8]", "model.channels=[8]", "model.dilations=[1]"]
    autoencoder = build(*one_stage, f"latent={latent}", rounding=rounding, shape=(256, 1))
    trainer = trainer_of(autoencoder, 8, keras.optimizers.Adam(1e-2), "espeak_digits", run_eagerly=True)
    pitch = np.random.default_rng(0).uniform(0.05, 0.2, (8, 1, 1))
    x = np.sin(pitch * np.arange(256)[:, None]).astype("float32")
    losses = [loss_of_step(trainer, x) for _ in range(3)]
    assert losses[-1] < losses[0]
    logs = trainer.measure([x])
    assert np.isfinite(list(logs.values())).all()
    assert {"si_sdr", "log_spectral_distance", "bits_per_second"} <= set(logs)
    assert logs["bits_per_second"] == logs["bits"] > 0, "clips last a second"


@pytest.mark.parametrize("rounding", [strategy.name for strategy in RANDOM])
def test_random_strategies_draw_anew_each_step_and_measure_the_same_each_time(rounding):
    import keras
    import tensorflow as tf

    autoencoder = build("model.widths=[16]", "latent.normalize=false", rounding=rounding)
    trainer = trainer_of(autoencoder, 4, keras.optimizers.SGD(0.0), run_eagerly=True)
    x = tf.constant(np.random.default_rng(0).uniform(size=(8, *SHAPE)).astype("float32"))

    def losses():
        autoencoder.step.assign(0)
        found = []
        for _ in range(2):
            found.append(loss_of_step(trainer, x[:4]))
            found.append(trainer.measure([x[:4]] * 2))
        trainer.evaluation.reset_state()
        batches = [float(trainer.test_step(x[:4])["soft_loss"]) for _ in range(2)]
        return found[::2], [logs["soft_loss"] for logs in found[1::2]], batches

    trained, measured, batches = losses()
    assert len(set(trained)) == 2, "nothing but the noise changes, at learning rate 0"
    assert len(set(measured)) == (2 if rounding.endswith("_annealed") else 1)
    assert batches[0] != batches[1], "the same examples in another batch meet other noise"
    assert losses() == (trained, measured, batches)
    trainer.seed = 1
    autoencoder.step.assign(0)
    assert {loss_of_step(trainer, x[:4]) for _ in range(2)}.isdisjoint(trained)


@pytest.mark.parametrize("rounding", members("rounding"))
def test_only_hard_is_found_to_pass_no_gradient(rounding):
    from models.build import make_rounding
    from telemetry.gradient_flow import passes_gradient

    strategy = make_rounding(OmegaConf.create(BY_NAME[rounding].config), 1)
    assert passes_gradient(strategy) == (rounding != "hard")


def test_a_gradient_that_only_comes_later_counts():
    from models.build import make_rounding
    from telemetry.gradient_flow import passes_gradient

    falls = "{_target_: keras.optimizers.schedules.PolynomialDecay, initial_learning_rate: 1e9, end_learning_rate: %s}"
    for end, expected in (("2", True), ("1e9", False)):
        words = ["rounding=ramp", f"rounding.slope={falls % end}", "+rounding.slope.decay_steps=null"]
        assert passes_gradient(make_rounding(compose(words).rounding, 1)) == expected


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [
        ("PolynomialDecay, initial_learning_rate: 1, end_learning_rate: 4, decay_steps: null", 2.5),
        ("PolynomialDecay, initial_learning_rate: 1, end_learning_rate: 4, decay_steps: 50, power: 1", 4),
        ("ExponentialDecay, initial_learning_rate: 1, decay_rate: 4, decay_steps: null", 2),
        ("CosineDecay, initial_learning_rate: 3, decay_steps: null, alpha: 0", 1.5),
        ("PiecewiseConstantDecay, boundaries: [20, 60], values: [1, 2, 3]", 2),
    ],
)
def test_any_keras_schedule_gives_numbers_between(schedule, middle):
    """From integers, too, as one types them; `null` steps are all 100."""
    autoencoder = build("rounding=soft_round", f"rounding.alpha={{_target_: keras.optimizers.schedules.{schedule}}}")
    autoencoder.step.assign(50)
    np.testing.assert_allclose(autoencoder.in_force()["alpha"], middle, rtol=1e-6)
    soft = np.asarray(autoencoder.soften(np.float32([[0.2]]), None))
    np.testing.assert_allclose(soft, 0.5 + np.tanh(middle * -0.3) / 2 / np.tanh(middle / 2), rtol=1e-5)


def test_progress_is_the_share_of_steps_and_ends_at_all():
    autoencoder = build("rounding=switch")
    for step, progress in ((0, 0), (25, 0.25), (100, 1), (170, 1)):
        autoencoder.step.assign(step)
        assert autoencoder.in_force() == {"progress": progress}


def test_a_strategy_without_any_gradient_is_found_out():
    import tensorflow as tf

    from telemetry.gradient_flow import passes_gradient

    assert not passes_gradient(tf.round)


def test_a_strategy_without_gradient_counts_as_zeros():
    import keras
    import tensorflow as tf

    autoencoder = build("model.widths=[8]")
    autoencoder.rounding = tf.round
    trainer = trainer_of(autoencoder, 4, keras.optimizers.SGD(0.1))
    trainer.train_step(np.ones((4, *SHAPE), "float32"))
    reported = trainer.measured()
    assert reported["gradient_norm/code"] > 0
    assert reported["gradient_norm/u"] == reported["gradient_norm/encoder"] == 0
    assert (reported["gradient_flow/transmission"], reported["gradient_flow/zero_fraction"]) == (0, 1)


def test_hard_and_soft_errors_of_an_evaluation():
    import keras

    autoencoder = build("rounding=identity", "model.widths=[16]", "latent.units=8")
    trainer = trainer_of(autoencoder, 4, keras.optimizers.SGD(0.1))
    x = np.random.default_rng(0).uniform(size=(10, *SHAPE)).astype("float32")
    logs = trainer.measure([x[:4], x[4:8], x[8:]])
    u = np.asarray(autoencoder.encode(x))
    hard = ((np.asarray(autoencoder.decode(np.round(u)), "float64") - x) ** 2).mean(axis=(1, 2, 3))
    soft = ((np.asarray(autoencoder.decode(u), "float64") - x) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(logs["loss"], hard.mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["soft_loss"], soft.mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["gap"], hard.mean() - soft.mean(), rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(logs["psnr"], np.mean(10 * np.log10(1 / hard)), rtol=1e-5)

"""Half precision in the layers of encoder and decoder; all else, and what is stored, is float32."""

import numpy as np
import pytest
from conftest import small
from test_train import columns, weights

from conf import compose
from conf.checks import ConfigError, check
from telemetry.run import default_path

HALF = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


@pytest.fixture
def build_small(tmp_path, data_dir):
    """`train.build` of a short run on the embedded digits."""
    from train import build

    return lambda *overrides: build(small(data_dir, tmp_path / "run", *overrides))


@pytest.mark.parametrize("precision", HALF)
def test_half_precision_trains_as_well_and_measures_the_same(train_small, small_run, tmp_path, precision):
    """Its gradients' norms, too: those of the loss, not of the scaled one."""
    train_small(f"precision={precision}")
    table, expected = columns(tmp_path / "run"), columns(small_run[0])
    for column in ("loss", "val_loss", "val_soft_loss"):
        np.testing.assert_allclose(table[column], expected[column], rtol=0.02)
    assert table["loss"] != expected["loss"]
    for column in ("gradient_norm/encoder", "gradient_norm/decoder", "gradient_norm/code", "gradient_norm/u"):
        np.testing.assert_allclose(table[column], expected[column], rtol=0.05)
    stored = weights(tmp_path / "run" / "last.weights.h5")
    assert {array.dtype.name for name, array in stored.items() if array.ndim} == {"float32"}


@pytest.mark.parametrize("precision", HALF)
def test_only_layers_of_encoder_and_decoder_compute_in_it(build_small, precision):
    import tensorflow as tf

    splits, trainer = build_small(f"precision={precision}")
    model, x = trainer.autoencoder, splits.train[:2]
    assert model.encoder(x).dtype == model.decoder(tf.zeros([2, 8])).dtype == HALF[precision]
    for part in (model.latent, model.latent.normalization):
        assert part.compute_dtype == "float32"
    for tensor in (model.project(x), model.encode(x), model(x), *trainer.test_step(x).values()):
        assert tensor.dtype == "float32"
    assert {weight.dtype for weight in model.trainable_variables} == {"float32"}
    _, trainer = build_small()  # of the next run in this process
    assert trainer.autoencoder.encoder(x).dtype == "float32"


def test_a_step_whose_gradients_overflow_is_left_out(build_small):
    import tensorflow as tf

    splits, trainer = build_small("precision=mixed_float16")
    step = tf.function(trainer.train_step, autograph=False)
    model, optimizer, means = trainer.autoencoder, trainer.optimizer, trainer.gradient_flow.means
    x = splits.train[:500]
    before = [weight.numpy() for weight in model.trainable_variables]
    optimizer.dynamic_scale.assign(2.0**120)
    step(x)
    for weight, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    assert float(optimizer.dynamic_scale) == 2.0**119
    assert float(means.count) == 0
    assert int(model.step) == 1
    optimizer.dynamic_scale.assign(1024.0)
    step(x)
    assert np.isfinite([float(value) for value in trainer.measured().values()]).all()
    assert float(means.count) == 1
    assert any((weight.numpy() != old).any() for weight, old in zip(model.trainable_variables, before, strict=True))


@pytest.mark.parametrize("value", ["float16", "float64", "null", "16"])
def test_another_precision_is_refused(value):
    with pytest.raises(ConfigError, match=r"^precision must be one of float32, mixed_float16, mixed_bfloat16, got "):
        check(compose([f"precision={value}"]))


def test_precision_is_part_of_what_a_run_is():
    assert default_path(compose(["precision=mixed_bfloat16"])).parent.name == "precision=mixed_bfloat16"

"""Our AdamW against the formula in NumPy, and against Keras's own."""

import numpy as np
import pytest

STEPS = 30


def trained(optimizer, x, gradients):
    """What `x`, a weight and a bias, becomes."""
    import keras

    weights = [keras.Variable(value, name=name) for name, value in zip(("kernel", "bias"), x, strict=True)]
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(weights)
    for gradient in gradients:
        optimizer.apply(gradient, weights)
    return [weight.numpy() for weight in weights]


def by_the_formula(x, gradients, decays):
    """In float64; Loshchilov & Hutter 2019, algorithm 2, with Keras's epsilon outside of the bias correction."""
    m, v = 0.0, 0.0
    for t, gradient in enumerate(gradients):
        rate = 0.01 * 0.5 * (1 + np.cos(np.pi * t / STEPS))
        x = x - decays * rate * x
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x = x - rate * np.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1)) * m / (np.sqrt(v) + 1e-7)
    return x


@pytest.mark.parametrize("words", [{}, {"amsgrad": True}, {"gradient_accumulation_steps": 2}, {"clipnorm": 0.1}])
def test_steps_are_those_of_adamw(words):
    import keras

    from models.optimizer import AdamW

    generator = np.random.default_rng(0)
    x = [generator.normal(size=shape).astype(np.float32) for shape in ((7, 5), (5,))]
    gradients = [[generator.normal(0, 0.1, value.shape).astype(np.float32) for value in x] for _ in range(STEPS)]
    schedule = keras.optimizers.schedules.CosineDecay(0.01, STEPS)
    ours, keras_own = (
        trained(kind(schedule, weight_decay=0.5, **words), x, gradients) for kind in (AdamW, keras.optimizers.AdamW)
    )
    for number, decays in ((0, 0.5), (1, 0.0)):
        np.testing.assert_allclose(ours[number], keras_own[number], rtol=1e-5, atol=1e-6)
        if not words:
            expected = by_the_formula(x[number].astype(float), [g[number].astype(float) for g in gradients], decays)
            np.testing.assert_allclose(ours[number], expected, rtol=1e-5, atol=1e-6)


def test_training_takes_it_for_keras_own():
    from conf import compose
    from models.build import make_optimizer
    from models.optimizer import AdamW

    cfg = compose(["optimizer.global_clipnorm=3"]).optimizer
    optimizer = make_optimizer(cfg, 10)
    assert isinstance(optimizer, AdamW)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (cfg.weight_decay, 3)
    assert float(optimizer.learning_rate) == pytest.approx(cfg.learning_rate)
    cfg._target_ = "keras.optimizers.Adam"
    assert not isinstance(make_optimizer(cfg, 10), AdamW)

"""The image models and a step of their training in JAX, for `peers`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers import BATCH_SIZE, EXAMPLES, LEARNING_RATE, TOTAL_STEPS, WEIGHT_DECAY

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "image_conv": [
        *((3, 3, 1, 32), (3, 3, 32, 64), (3136, 256), (256, 64)),
        *((64, 256), (256, 3136), (3, 3, 64, 32), (3, 3, 32, 32), (3, 3, 32, 1)),
    ],
    "image_mlp": [(784, 512), (512, 256), (256, 64), (64, 256), (256, 512), (512, 784)],
}


def _conv(x: jax.Array, layer: tuple, stride: int = 1) -> jax.Array:
    kernel, bias = layer
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout) + bias


def _dense(x: jax.Array, layer: tuple) -> jax.Array:
    return x @ layer[0] + layer[1]


def _up(x: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def _rounded(z: jax.Array, scale: tuple, moving: tuple) -> tuple[jax.Array, tuple]:
    mean, variance = jnp.mean(z, 0), jnp.var(z, 0)
    u = jax.nn.sigmoid((z - mean) * lax.rsqrt(variance + 1e-3) * scale[0] + scale[1])
    moving = (0.9 * moving[0] + 0.1 * mean, 0.9 * moving[1] + 0.1 * variance)
    return 2 * (u + lax.stop_gradient(jnp.round(u) - u)) - 1, moving


def _conv_loss(weights: dict, moving: tuple, x: jax.Array) -> tuple[jax.Array, tuple]:
    relu, layers = jax.nn.relu, weights["layers"]
    h = relu(_conv(relu(_conv(x, layers[0], 2)), layers[1], 2)).reshape(len(x), -1)
    code, moving = _rounded(_dense(relu(_dense(h, layers[2])), layers[3]), weights["scale"], moving)
    h = relu(_dense(relu(_dense(code, layers[4])), layers[5])).reshape(len(x), 7, 7, 64)
    h = relu(_conv(_up(relu(_conv(_up(h), layers[6]))), layers[7]))
    return jnp.mean((jax.nn.sigmoid(_conv(h, layers[8])) - x) ** 2), moving


def _mlp_loss(weights: dict, moving: tuple, x: jax.Array) -> tuple[jax.Array, tuple]:
    relu, layers = jax.nn.relu, weights["layers"]
    x = x.reshape(len(x), -1)
    z = _dense(relu(_dense(relu(_dense(x, layers[0])), layers[1])), layers[2])
    code, moving = _rounded(z, weights["scale"], moving)
    h = relu(_dense(relu(_dense(code, layers[3])), layers[4]))
    return jnp.mean((jax.nn.sigmoid(_dense(h, layers[5])) - x) ** 2), moving


def _adamw(weight: Any, gradient: Any, m: Any, v: Any, step: Any) -> tuple[Any, Any, Any]:
    rate = LEARNING_RATE * (1 + jnp.cos(jnp.pi * step / TOTAL_STEPS)) / 2
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    change = m / (1 - 0.9 ** (step + 1)) / (jnp.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-7)
    return weight - rate * (change + (WEIGHT_DECAY * weight if weight.ndim > 1 else 0)), m, v


def prepare(model: str) -> tuple[int, Callable[[int], object]]:
    """The number of trainable parameters, and a function that makes so many training steps."""
    random = np.random.default_rng(0)
    layers = [
        (random.normal(size=s).astype("f") * np.sqrt(2 / np.prod(s[:-1])).astype("f"), np.zeros(s[-1], "f"))
        for s in SHAPES[model]
    ]
    weights = {"layers": layers, "scale": (np.ones(64, "f"), np.zeros(64, "f"))}
    zeros = jax.tree.map(np.zeros_like, weights)
    moving = (np.zeros(64, "f"), np.ones(64, "f"))
    state = jax.tree.map(jnp.array, (weights, zeros, zeros, moving, np.float32(0)))
    loss_of = jax.value_and_grad({"image_conv": _conv_loss, "image_mlp": _mlp_loss}[model], has_aux=True)
    data = jnp.array(random.uniform(size=(EXAMPLES, 28, 28, 1)).astype("f"))

    def train(state: tuple, data: jax.Array, indices: jax.Array) -> tuple:
        weights, first, second, moving, step = state
        (loss, moving), gradients = loss_of(weights, moving, data[indices])
        leaves = [jax.tree.leaves(part) for part in (weights, gradients, first, second)]
        updated = [_adamw(w, g, m, v, step) for w, g, m, v in zip(*leaves, strict=True)]
        new = zip(*updated, strict=True)
        return (*(jax.tree.unflatten(jax.tree.structure(weights), part) for part in new), moving, step + 1), loss

    train = jax.jit(train, donate_argnums=0)

    def steps(count: int) -> float:
        nonlocal state
        order = random.permutation(EXAMPLES)
        for number in range(count):
            start = number * BATCH_SIZE % (EXAMPLES - BATCH_SIZE + 1)
            state, loss = train(state, data, order[start : start + BATCH_SIZE])
        return float(loss)

    return sum(weight.size for weight in jax.tree.leaves(weights)), steps

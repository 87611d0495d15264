"""The hardware: how much of it a step reaches."""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

import train
from benchmarks.timing import in_turns, table, verdict
from conf import compose
from data.pipeline import training_batches
from models.autoencoder import Trainer
from models.training import Steps

GOAL = 0.65
COPIES_PER_WEIGHT = 7
"""Floats that AdamW moves: it reads weight, gradient and two moments, and writes all but the gradient."""


class Work(NamedTuple):
    """What a layer's part of a training step needs at least."""

    flops: float
    bytes: float


def work(trainer: Trainer) -> Iterator[Work]:
    """Of each layer with a kernel: three products, two for the first, whose input has no gradient; each tensor once."""
    first = True
    for layer in [*trainer.autoencoder.encoder.layers, *trainer.autoencoder.decoder.layers]:
        if not isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            continue
        weights = math.prod(layer.kernel.shape)
        inputs, outputs = (trainer.batch_size * math.prod(t.shape[1:]) for t in (layer.input, layer.output))
        products, tensors = (2, 2) if first else (3, 3)
        moved = tensors * inputs + 3 * outputs + (products + COPIES_PER_WEIGHT) * weights
        yield Work(2 * products * outputs / layer.kernel.shape[-1] * weights, 4 * moved)
        first = False


def trainer_of(*words: str) -> tuple[Trainer, Callable[[], object]]:
    """An autoencoder in training, and a call that does ten of its steps, with all that is measured by default."""
    splits, trainer = train.build(compose([*words, "output_dir=unused"]))
    steps = Steps(trainer, iter(training_batches(splits.train, trainer.batch_size, 0, 0, epochs=100_000)))

    def ten_steps() -> None:
        left = 10
        while left:
            left -= steps.take(left)

    return trainer, ten_steps


def products_of(trainer: Trainer) -> Callable[[], object]:
    """A call that does ten times the products of dense layers in a step, and nothing else."""
    layers = [*trainer.autoencoder.encoder.layers, *trainer.autoencoder.decoder.layers]
    kernels = [layer.kernel.value.read_value() for layer in layers if isinstance(layer, keras.layers.Dense)]
    inputs, outputs = ([tf.random.normal([trainer.batch_size, k.shape[axis]]) for k in kernels] for axis in (0, 1))

    @tf.function(autograph=False)
    def products() -> list[tf.Tensor]:
        there = [tf.matmul(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)]
        dkernels = [tf.matmul(x, dy, transpose_a=True) for x, dy in zip(inputs, outputs, strict=True)]
        dinputs = [tf.matmul(dy, kernel, transpose_b=True) for dy, kernel in zip(outputs[1:], kernels[1:], strict=True)]
        return there + dkernels + dinputs

    def ten_times() -> None:
        for _ in range(10):
            results = products()
        results[-1].numpy()

    return ten_times


def run() -> str:
    """The section."""
    a, b = tf.random.normal([2048, 2048]), tf.random.normal([2048, 2048])
    long, other = tf.random.normal([2**25]), tf.Variable(tf.zeros([2**25]))
    perceptron, perceptron_steps = trainer_of("batch_size=256")
    convolutional, convolutional_steps = trainer_of("model=image_conv")
    calls = {
        "product": lambda: tf.matmul(a, b).numpy(),
        "copy": lambda: other.assign(long + 1),
        "products": products_of(perceptron),
        "image_mlp": perceptron_steps,
        "image_conv": convolutional_steps,
    }
    seconds = {name: statistics.median(values) for name, values in in_turns(calls, rounds=15, warm_up=3).items()}
    peak, bandwidth = 2 * 2048**3 / seconds["product"], 3 * 4 * 2**25 / seconds["copy"]
    rows = []
    for name, trainer in {"image_mlp": perceptron, "image_conv": convolutional}.items():
        layers, step = list(work(trainer)), seconds[name] / 10
        flops, moved = sum(layer.flops for layer in layers), sum(layer.bytes for layer in layers)
        roof = sum(max(layer.flops / peak, layer.bytes / bandwidth) for layer in layers)
        share = flops / step / peak
        rows.append(
            (
                f"{name}, batch {trainer.batch_size}",
                f"{1000 * step:.1f} ms",
                f"{flops / 1e9:.2f}",
                f"{flops / moved:.0f}",
                verdict(share, GOAL) if name == "image_mlp" else f"{share:.3g}",
                f"{roof / step:.3g}",
            )
        )
    products = 10 * sum(layer.flops for layer in work(perceptron)) / seconds["products"] / peak
    head = ["step", "time", "GFLOP", "FLOP per byte", "of the peak", "of the roofline"]
    ridge = f"{peak / bandwidth:.0f} FLOP per byte"
    return f"""The peak is that of a product of two float32 matrices of 2048 x 2048: {peak / 1e9:.0f} GFLOP/s.
Memory moves {bandwidth / 1e9:.1f} GB/s (reading an array of 134 MB, writing it twice): below {ridge} it limits.
The step is that of training, with everything measured as by default. Its FLOP are those of the kernels' products,
forward and backward; its roofline is the sum over layers of what takes longer, these at the peak or each tensor moved
once from and to memory. The products of image_mlp by themselves, without anything else, reach {products:.3g} of the
peak: they are smaller than the matrices that the peak is of.

{table(head, rows)}"""

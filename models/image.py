"""Encoders and decoders for images `x [batch, height, width, 1]` in [0, 1]; `z` and codes are `[batch, units]`."""

import math
from collections.abc import Sequence

import keras
from keras import layers


class Upsampling2D(layers.UpSampling2D):
    """Keras's, whose output would have no static height: TFLite has no convolution of such."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """`[batch, height, width, channels]`, with height and width times the factor."""
        return keras.ops.reshape(super().call(x), (-1, *self.compute_output_shape(x.shape)[1:]))


def mlp(shape: Sequence[int], units: int, *, widths: Sequence[int]) -> tuple[keras.Model, keras.Model]:
    """A multilayer perceptron each way.

    Args:
        shape: of one image, `[height, width, 1]`.
        units: of the latent.
        widths: of the encoder's hidden layers; the decoder mirrors them.

    Returns:
        The encoder `x -> z` and the decoder `centred code -> x_hat`.

    Raises:
        ValueError: `shape` is not that of an image.
    """
    _check_image(shape)
    encoder = [layers.Flatten(), *(_dense(width) for width in widths), layers.Dense(units)]
    decoder = [
        *(_dense(width) for width in reversed(widths)),
        layers.Dense(math.prod(shape), activation="sigmoid"),
        layers.Reshape(shape),
    ]
    return _sequential("encoder", shape, encoder), _sequential("decoder", [units], decoder)


def conv(shape: Sequence[int], units: int, *, channels: Sequence[int], width: int) -> tuple[keras.Model, keras.Model]:
    """Strided convolutions down, nearest-neighbour upsampling and convolutions up, a dense layer at the bottom.

    Upsampling before a convolution, instead of a strided transposed one, leaves no checkerboard pattern
    (Odena 2016, "Deconvolution and Checkerboard Artifacts", doi 10.23915/distill.00003).

    Args:
        shape: of one image, `[height, width, 1]`; both sides divisible by 2 for each entry of `channels`.
        units: of the latent.
        channels: of each convolution that halves the image; the decoder mirrors them.
        width: of the dense hidden layer on either side of the latent.

    Returns:
        The encoder `x -> z` and the decoder `centred code -> x_hat`.

    Raises:
        ValueError: `shape` is not that of an image, or can't be halved so often.
    """
    _check_image(shape)
    step = 2 ** len(channels)
    if shape[0] % step or shape[1] % step:
        raise ValueError(
            f"halves the image {len(channels)} times, so height and width must be multiples "
            f"of {step}, got {shape[0]} x {shape[1]}: change data.image_size or model.channels"
        )
    bottom = (shape[0] // step, shape[1] // step, channels[-1])
    encoder = [_conv(n, strides=2) for n in channels]
    encoder += [layers.Flatten(), _dense(width), layers.Dense(units)]
    decoder = [_dense(width), _dense(math.prod(bottom)), layers.Reshape(bottom)]
    for n in [*reversed(channels[:-1]), channels[0]]:
        decoder += [Upsampling2D(2), _conv(n)]
    decoder += [layers.Conv2D(shape[-1], 3, padding="same", activation="sigmoid")]
    return _sequential("encoder", shape, encoder), _sequential("decoder", [units], decoder)


def _check_image(shape: Sequence[int]) -> None:
    if len(shape) != 3:
        raise ValueError(f"needs images [height, width, 1], but the data gives {list(shape)}: choose another model")


def _dense(width: int) -> layers.Layer:
    return layers.Dense(width, activation="relu", kernel_initializer="he_normal")


def _conv(channels: int, strides: int = 1) -> layers.Layer:
    return layers.Conv2D(channels, 3, strides, padding="same", activation="relu", kernel_initializer="he_normal")


def _sequential(name: str, shape: Sequence[int], stack: list[layers.Layer]) -> keras.Model:
    for position, layer in enumerate(stack):
        layer.name = f"{name}_{position}_{type(layer).__name__.lower()}"
    return keras.Sequential([keras.Input(tuple(shape)), *stack], name=name)

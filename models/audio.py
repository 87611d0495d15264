"""Encoders and decoders for audio `x [batch, samples, 1]` in [-1, 1]; `z` and codes are `[batch, frames, units]`."""

from collections.abc import Sequence

import keras
from keras import layers


def conv(
    shape: Sequence[int | None],
    units: int,
    *,
    strides: Sequence[int],
    channels: Sequence[int],
    dilations: Sequence[int],
) -> tuple[keras.Model, keras.Model]:
    """Strided convolutions down, transposed ones up, and residual units between them.

    The way down and up is linear: all that bends is in the residual units, whose branches start at zero. So training
    begins with a linear transform code and bends it from there.

    Each kernel is a multiple of its stride, so that every sample is reached by as many taps and the transposed
    convolutions leave no checkerboard pattern (Odena 2016, "Deconvolution and Checkerboard Artifacts", doi
    10.23915/distill.00003).

    Args:
        shape: of one clip, `[samples, 1]`; `[None, 1]` for audio of any length, of which `x_hat` has whole frames.
        units: of the latent.
        strides: of each convolution on the way down; `frames` is samples over their product, rounded up.
        channels: after each of them; the decoder mirrors both.
        dilations: of the residual units at the frame rate, before and after the latent; their reach is the context.

    Returns:
        The encoder `x -> z` and the decoder `centred code -> x_hat`.

    Raises:
        ValueError: `shape` is not that of audio, or strides and channels differ in number.
    """
    if len(shape) != 2:
        raise ValueError(f"needs audio [samples, 1], but the data gives {list(shape)}: choose another model")
    if len(strides) != len(channels):
        raise ValueError(f"needs as many model.channels as model.strides, got {list(channels)} and {list(strides)}")
    x = z = keras.Input(tuple(shape), name="x")
    for stage, (stride, width) in enumerate(zip(strides, channels, strict=True)):
        z = _linear(width, _taps(stage, stride), stride, name=f"encoder_down_{stage}")(z)
        z = _residual(z, 1, f"encoder_residual_{stage}") if stage < len(strides) - 1 else z
    z = _context(z, dilations, "encoder_context")
    encoder = keras.Model(x, _linear(units, 1, name="encoder_units")(z), name="encoder")

    code = keras.Input(encoder.output_shape[1:], name="code")
    y = _context(_linear(channels[-1], 1, name="decoder_units")(code), dilations, "decoder_context")
    for stage, (stride, width) in reversed(list(enumerate(zip(strides, [x.shape[-1], *channels[:-1]], strict=True)))):
        y = _linear(width, _taps(stage, stride), stride, up=True, name=f"decoder_up_{stage}")(y)
        y = _residual(y, 1, f"decoder_residual_{stage}") if stage > 0 else y
    if shape[0] is not None:
        y = layers.Cropping1D((0, y.shape[1] - shape[0]), name="decoder_crop")(y)
    return encoder, keras.Model(code, y, name="decoder")


def _taps(stage: int, stride: int) -> int:
    return stride * (4 if stage == 0 else 2)  # next to the samples, where channels are few, taps cost little


def _linear(width: int, taps: int, stride: int = 1, *, up: bool = False, name: str) -> layers.Layer:
    kind = layers.Conv1DTranspose if up else layers.Conv1D
    return kind(width, taps, stride, padding="same", use_bias=False, kernel_initializer="lecun_normal", name=name)


def _context(y: keras.KerasTensor, dilations: Sequence[int], name: str) -> keras.KerasTensor:
    for number, dilation in enumerate(dilations):
        y = _residual(y, dilation, f"{name}_{number}")
    return y


def _residual(y: keras.KerasTensor, dilation: int, name: str) -> keras.KerasTensor:
    """A residual unit: `y [batch, frames, channels]` plus a branch that is zero at the start."""
    bend = layers.Conv1D(
        y.shape[-1],
        3,
        dilation_rate=dilation,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        name=f"{name}_bend",
    )
    out = layers.Conv1D(y.shape[-1], 1, kernel_initializer="zeros", name=f"{name}_out")
    return layers.Add(name=f"{name}_add")([y, out(bend(y))])

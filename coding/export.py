"""The trained model in forms that need nothing of this repository: a TensorFlow SavedModel, with LiteRT (TFLite) in it.

tf.saved_model.load("exported").signatures["encode"](x=x)["codes"]
tf.lite.Interpreter("exported/model.tflite").get_signature_runner("decode")(codes=codes)["x"]
"""

import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from coding.statistics import CodeStatistics
from coding.stored import Codec, Stored
from conf.checks import first_line
from models.autoencoder import Autoencoder
from telemetry import output
from telemetry.comparison.tables import Table, terminal
from telemetry.session import unheard

log = logging.getLogger("codec")

TFLITE = "model.tflite"
README = "README.txt"

REPETITIONS = 5
SECONDS = 0.1
"""Of each repetition, at least."""


class Form(NamedTuple):
    """A way to run the model.

    Attributes:
        name: of it.
        size: in bytes.
        encode: float32 `[batch, ...]` to int32 codes.
        decode: and back.
    """

    name: str
    size: int
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


class Signatures(tf.Module):
    """What is exported of an autoencoder; the number of examples is free.

    Args:
        autoencoder: trained.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        parts = autoencoder.encoder, autoencoder.latent, autoencoder.decoder
        # Not the layers, of which TensorFlow would store more than their numbers.
        self.weights = [weight.value for part in parts for weight in part.variables]

        def encode(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"codes": tf.cast(tf.round(autoencoder.encode(x)), tf.int32)}

        def decode(codes: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"x": autoencoder.decode(tf.cast(codes, tf.float32))}

        x = tf.TensorSpec([None, *autoencoder.encoder.input_shape[1:]], tf.float32, "x")
        codes = tf.TensorSpec([None, *autoencoder.encoder.output_shape[1:]], tf.int32, "codes")
        self.encode = tf.function(encode, input_signature=[x], autograph=False)
        self.decode = tf.function(decode, input_signature=[codes], autograph=False)


def export(stored: Stored, path: Path) -> None:
    """Writes a folder, compares what is in it with the run itself, and reports sizes and speeds.

    Args:
        stored: the run, started.
        path: of the folder; a SavedModel, `model.tflite` if the model can be converted, and `README.txt`.

    Raises:
        ConfigError: the path exists or cannot be written.
    """
    autoencoder = stored.model(None if stored.is_image else [None, 1])
    notes = []
    with output.fresh(path) as draft:
        signatures = Signatures(autoencoder)
        try:
            tf.saved_model.save(signatures, draft, {"encode": signatures.encode, "decode": signatures.decode})
        except tf.errors.OpError as error:  # a full or read-only disk, in TensorFlow's words
            raise OSError(first_line(error).rpartition("; ")[2]) from error
        forms = [saved_model(draft)]
        try:
            (draft / TFLITE).write_bytes(converted(signatures))
            forms.append(tflite(draft / TFLITE, stored))
        except OSError:
            raise
        except Exception as error:  # the converter's own has no public name, the interpreter's is any
            (draft / TFLITE).unlink(missing_ok=True)
            notes.append(f"no {TFLITE}: TensorFlow does not convert this model ({_reason(error)})")
        (draft / README).write_text(readme(stored, autoencoder, len(forms) > 1))
    log.info("%s: a SavedModel%s; %s/%s says how to load it", path, f", and {TFLITE}" * (len(forms) > 1), path, README)
    log.info("%s", "\n".join([report(stored, forms), *notes]))


def converted(signatures: Signatures) -> bytes:
    """A TFLite model with both signatures, of TFLite's own operations only."""
    functions = [signatures.encode.get_concrete_function(), signatures.decode.get_concrete_function()]
    with unheard():
        return tf.lite.TFLiteConverter.from_concrete_functions(functions, signatures).convert()


def saved_model(path: Path) -> Form:
    """A SavedModel as another program would load it."""
    loaded = tf.saved_model.load(path)  # kept by the functions below: signatures don't keep their variables
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Form(
        "SavedModel",
        size,
        lambda x: loaded.signatures["encode"](x=tf.constant(x))["codes"].numpy(),
        lambda codes: loaded.signatures["decode"](codes=tf.constant(codes))["x"].numpy(),
    )


def tflite(path: Path, stored: Stored) -> Form:
    """A TFLite model as another program would load it, with as many threads as the run."""
    with warnings.catch_warnings(), unheard():
        warnings.simplefilter("ignore")  # that it has another name in a package that we don't need
        threads = stored.config.threads or os.cpu_count()
        interpreter = tf.lite.Interpreter(str(path), num_threads=threads)
        encode, decode = map(interpreter.get_signature_runner, ("encode", "decode"))
        decode(codes=encode(x=np.zeros((1, *stored.statistics.shape), np.float32))["codes"])  # or it says so now
    return Form("TFLite", path.stat().st_size, lambda x: encode(x=x)["codes"], lambda codes: decode(codes=codes)["x"])


def drawn(statistics: CodeStatistics, count: int) -> np.ndarray:
    """Codes of so many examples, int32 `[count, ..., units]`, each unit as often as in the training set."""
    rng, shares = np.random.default_rng(0), statistics.counts / statistics.counts.sum(axis=1, keepdims=True)
    size = count, *statistics.positions
    codes = [rng.choice(len(share), size, p=share) for share in shares]
    return np.stack(codes, axis=-1).astype(np.int32) + np.int32(statistics.first)


def readme(stored: Stored, autoencoder: Autoencoder, with_tflite: bool) -> str:
    """How to load what was exported, for somebody who has nothing else."""
    config, levels = stored.config, autoencoder.latent.levels
    units = f"{autoencoder.latent.units} units, {f'0 to {levels - 1}' if levels else 'any integers'}"
    example = ", ".join(map(str, stored.statistics.shape))
    if stored.is_image:
        shapes = [f"x      float32 [batch, {example}], grey levels from 0 to 1", f"codes  int32 [batch, {units}]"]
    else:
        clip = autoencoder.encoder.compute_output_shape((1, *stored.statistics.shape))
        samples, frames = stored.statistics.shape[0], clip[1]
        loudness = ", the loudest sample 1 or -1" if config.data.peak_normalize else ""
        shapes = [
            f"x      float32 [batch, samples, 1] from -1 to 1{loudness}, at {config.data.sample_rate_hz} Hz",
            f"codes  int32 [batch, frames, {units}]",
            f"Trained on clips of {samples} samples, which are {frames} frames. Other lengths work, too; decoded, they",
            "are whole frames, of which the end is to be cut off.",
        ]
    lines = [
        f"An autoencoder, trained on {config.choices.data} (model={config.choices.model}, "
        f"latent={config.choices.latent}, rounding={config.choices.rounding}). TensorFlow {tf.__version__}.",
        "",
        *shapes,
        "",
        "    import tensorflow as tf",
        "    model = tf.saved_model.load(FOLDER)  # this one",
        '    codes = model.signatures["encode"](x=tf.constant(x))["codes"]',
        '    x_hat = model.signatures["decode"](codes=codes)["x"]',
    ]
    if with_tflite:
        lines += [
            "",
            f'    model = tf.lite.Interpreter(FOLDER + "/{TFLITE}")  # or ai_edge_litert.interpreter.Interpreter',
            '    codes = model.get_signature_runner("encode")(x=x)["codes"]',
            '    x_hat = model.get_signature_runner("decode")(codes=codes)["x"]',
        ]
    return "\n".join(lines) + "\n"


def report(stored: Stored, forms: list[Form]) -> str:
    """A table: bytes, examples a second, and how far from the run's own numbers."""
    autoencoder, batch_size = stored.model(), stored.config.batch_size
    codes = drawn(stored.statistics, batch_size)
    codecs = {batch: Codec(autoencoder, batch) for batch in sorted({1, batch_size})}
    x = codecs[batch_size].decode(codes)
    codes = codecs[batch_size].encode(x)
    x_hat = codecs[batch_size].decode(codes)
    own = Form(
        "as trained",
        (stored.path / "best.weights.h5").stat().st_size,
        lambda x: codecs[len(x)].encode(x),
        lambda codes: codecs[len(codes)].decode(codes),
    )
    lines = []
    for form in [own, *forms]:
        differ = np.count_nonzero(form.encode(x) != codes)
        off = np.abs(form.decode(codes)[:, : x_hat.shape[1]] - x_hat).max()
        said = [form.name, f"{form.size:,}"], [f"{differ:,} of {codes.size:,}", f"{off:.1g}"]
        for batch in codecs:
            speeds = _speed(form.encode, x[:batch]), _speed(form.decode, codes[:batch])
            lines.append([*said[0], str(batch), *(f"{speed:,.0f}" for speed in speeds), *said[1]])
            said = ["", ""], ["", ""]
    heads = ["form", "bytes", "batch", "encoded a second", "decoded a second", "codes that differ", "x off by"]
    return terminal(Table(1, heads, lines))


def _reason(error: Exception) -> str:
    """The first line, without the place in the source that the converter names in it."""
    return first_line(error).rpartition("error: ")[2][:160]


def _speed(call: Callable[[np.ndarray], np.ndarray], examples: np.ndarray) -> float:
    """Examples a second, the median of a few repetitions."""
    speeds = []
    call(examples)
    for _ in range(REPETITIONS):
        count, began = 0, time.perf_counter()
        while (seconds := time.perf_counter() - began) < SECONDS:
            call(examples)
            count += len(examples)
        speeds.append(count / seconds)
    return statistics.median(speeds)

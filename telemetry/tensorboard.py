"""What TensorBoard shows of a run: scalars, pictures, players, histograms, the configuration, and the HParams tab."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hp
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from conf import GROUPS
from conf.settings import settings
from models.autoencoder import Trainer
from telemetry.records import replacing

PICTURES_PER_RUN = 10
CLOSE_UPS_PER_RUN = 4

# A fixed set, of fixed types: HParams drops columns that only some runs have, and a null turns numbers into text.
HPARAMS = [
    hp.HParam("data"),
    hp.HParam("model"),
    hp.HParam("latent"),
    hp.HParam("rounding"),
    hp.HParam("loss"),
    hp.HParam("units"),
    hp.HParam("levels", description="0: all integers"),
    hp.HParam("normalize"),
    hp.HParam("learning_rate"),
    hp.HParam("batch_size"),
    hp.HParam("epochs"),
    hp.HParam("seed"),
    hp.HParam("settings", description="what else was set"),
]
METRICS = [
    hp.Metric("epoch_loss", display_name="hard loss"),
    hp.Metric("epoch_soft_loss", display_name="soft loss"),
    hp.Metric("epoch_gap", display_name="hard - soft"),
    hp.Metric("epoch_bits", display_name="bits"),
    hp.Metric("epoch_code_usage", display_name="code usage"),
    hp.Metric("epoch_psnr", display_name="PSNR, dB"),
    hp.Metric("epoch_si_sdr", display_name="SI-SDR, dB"),
    hp.Metric("epoch_log_spectral_distance", display_name="log-spectral distance, dB"),
    hp.Metric("epoch_bits_per_second", display_name="bits/s"),
]

# The tab shows five of each at first: of METRICS, the first five, which must be what all runs have, or its views of
# several axes stay empty; of HPARAMS, those that are said to differ, by name.
SHOWN_AT_FIRST = {"latent", "rounding", "seed", "settings", "units"}

# The tab "Custom scalars": what belongs together, in one chart.
LAYOUT = {
    "hard against soft": {
        "loss": [r"epoch_(loss|soft_loss|gap)$"],
    },
    "gradient": {
        "norms, from the code back to the weights": [r"gradient_norm/(code|u|encoder|decoder)$"],
        "norms by layer": [r"gradient_norm/layer/.*"],
        "what the strategy lets through": [r"gradient_flow/.*"],
        "cosine with a reference for the hard loss": [r"gradient_quality/cosine.*"],
        "bias and variance, relative to the reference": [r"gradient_quality/(bias|variance)$"],
        "update-to-weight ratios": [r"update_to_weight/.*"],
    },
    "latent": {
        "saturation": [r"saturation/.*"],
        "hyperparameters that move": [r"rounding/.*"],
    },
}


class TensorBoard(keras.callbacks.Callback):
    """Writes the event files `train/` and `validation/`, with the tags of Keras's own callback; epochs count from 1.

    Args:
        path: the run directory.
        config: the run's configuration.
        trainer: whose gradient flow keeps the last step's tensors.
        validation: examples `[n, ...]`; the first ones are shown.
        epochs_done: by earlier sessions of this run; what these wrote of later epochs is dropped.
    """

    def __init__(
        self, path: Path, config: Mapping[str, Any], trainer: Trainer, validation: tf.Tensor, epochs_done: int
    ) -> None:
        super().__init__()
        for file in path.glob("*/events.out.tfevents.*"):
            drop_later_events(file, epochs_done)
        self.trainer = trainer
        self.x = validation[: trainer.media.examples]
        self.epochs, self.rounding = config["epochs"], config["choices"]["rounding"]
        self.train = tf.summary.create_file_writer(str(path / "train"))
        self.validation = tf.summary.create_file_writer(str(path / "validation"))
        with self.train.as_default(step=0):
            tf.summary.text("config", "```yaml\n" + yaml.safe_dump(dict(config), sort_keys=False) + "```")
            tf.summary.experimental.write_raw_pb(layout().SerializeToString())
        with self.validation.as_default(step=0):
            tf.summary.experimental.write_raw_pb(hparams_config().SerializeToString())
            values = hparams(config)
            # By default runs of equal values share a row; TensorBoard shows the beginning of its name.
            hp.hparams(values, trial_id=f"{values['rounding']} {values['latent']} {path}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Writes the epoch's scalars, and now and then pictures and histograms."""
        done = epoch + 1
        for prefix, writer in (("", self.train), ("val_", self.validation)):
            tags = {name.removeprefix(prefix): name for name in logs if name.startswith("val_") == bool(prefix)}
            named = {tag if "/" in tag else f"epoch_{tag}": logs[name] for tag, name in tags.items()}
            with writer.as_default(step=done):  # whose end writes all to disk: a checkpoint may follow, and count on it
                tf.summary.experimental.write_raw_pb(scalars(named).SerializeToString())
        if math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"]):  # otherwise there is nothing to see
            self._show(done)

    def _show(self, epoch: int) -> None:
        if due(epoch, self.epochs, PICTURES_PER_RUN):
            with self.validation.as_default(step=epoch):
                self.trainer.media.show(self.x.numpy(), self.trainer.autoencoder(self.x).numpy())
        if due(epoch, self.epochs, CLOSE_UPS_PER_RUN):
            with self.train.as_default(step=epoch):
                self._close_up(epoch)

    def _close_up(self, epoch: int) -> None:
        from telemetry import curves, pictures  # Matplotlib, which takes a while to import
        from telemetry.rendering import pixels

        close_up, autoencoder = self.trainer.close_up, self.trainer.autoencoder
        last = {name: tensor.numpy() for name, tensor in close_up.last.items()}
        for name, values in last.items():
            tf.summary.histogram(f"histogram/{name}", values)
        means = {name: mean.numpy() for name, mean in close_up.result().items()}
        figures = {
            "close_up/where_gradient_gets_through": pictures.staircase(means),
            "close_up/histograms_by_unit": pictures.histograms(last),
        }
        if epoch == 1 or autoencoder.in_force():  # otherwise it looks as it did
            figures["close_up/strategy"] = curves.draw({self.rounding: autoencoder.soften}, self.rounding)
        for name, figure in figures.items():
            tf.summary.image(name, pixels(figure)[None])

    def on_train_end(self, logs: object = None) -> None:
        """Closes the event files."""
        self.train.close()
        self.validation.close()


def due(epoch: int, epochs: int, times: int) -> bool:
    """Whether something that is done so many times a run is done in this epoch: in the first, the last and between."""
    return epoch in (1, epochs) or epoch % -(-epochs // times) == 0


def scalars(values: Mapping[str, float]) -> Summary:
    """As `tf.summary.scalar` writes one, all at once, which takes a tenth of the time."""
    return Summary(value=[value for tag, number in values.items() for value in scalar_pb(tag, number).value])


def layout() -> Summary:
    """`LAYOUT` as TensorBoard takes it."""
    return custom_scalar.pb(
        layout_pb2.Layout(
            category=[
                layout_pb2.Category(
                    title=category,
                    chart=[
                        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))
                        for title, tags in charts.items()
                    ],
                )
                for category, charts in LAYOUT.items()
            ]
        )
    )


def hparams_config() -> Summary:
    """`HPARAMS` and `METRICS` as TensorBoard takes them."""
    config = hp.hparams_config_pb(HPARAMS, METRICS)
    (value,) = config.value
    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in SHOWN_AT_FIRST
    value.metadata.plugin_data.content = content.SerializeToString()
    return config


def drop_later_events(path: Path, epoch: int) -> None:
    """Rewrites an event file without what follows an epoch, and without step 0, which each session writes anew."""
    kept = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = Event.FromString(record)
            if event.HasField("file_version") or 0 < event.step <= epoch:
                kept.append(record)
    except tf.errors.DataLossError:
        pass  # a killed process left half an event at the end
    with replacing(path) as draft, tf.io.TFRecordWriter(str(draft)) as writer:
        for record in kept:
            writer.write(record)


def hparams(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `HPARAMS`, each of one type in every run."""
    latent = config["latent"]
    return {
        **{group: config["choices"][group] for group in GROUPS},
        "units": latent["units"],
        "levels": latent.get("levels", 2) or 0,
        "normalize": latent["normalize"],
        "learning_rate": float(config["optimizer"]["learning_rate"]),
        **{key: config[key] for key in ("batch_size", "epochs", "seed")},
        "settings": settings(config) or "defaults",
    }

"""Training: `train.py` against a bare loop over the same model."""

import statistics
import tempfile
import time

import keras
import tensorflow as tf

import train
from benchmarks.timing import Seconds, ratio, table, verdict
from conf import compose
from conf.checks import check
from models.autoencoder import Trainer
from telemetry.run import RunDirectory
from telemetry.tensorboard import CLOSE_UPS_PER_RUN, PICTURES_PER_RUN, due

CASES = {
    "image_mlp": (["epochs=40"], 0.95),
    "image_conv": (["model=image_conv", "epochs=20"], 0.97),
    "audio_conv": (["data=espeak_digits", "epochs=20"], 0.97),
}


class BareLoop:
    """What somebody would write who measures nothing: batches gathered from memory, one `tf.function` call a step.

    Args:
        trainer: of the same configuration, not the one that it is compared with.
        examples: the training set.
    """

    def __init__(self, trainer: Trainer, examples: tf.Tensor) -> None:
        model, optimizer, loss_of = trainer.autoencoder, trainer.optimizer, trainer.error
        variables = model.trainable_variables
        self.count, self.batch_size, self.steps = len(examples), trainer.batch_size, trainer.steps

        @tf.function(autograph=False)
        def step(indices: tf.Tensor) -> tf.Tensor:
            x = tf.gather(examples, indices)
            with tf.GradientTape() as tape:
                u = model.latent(model.encoder(x, training=True), training=True)
                code = model.soften(u, tf.zeros(2, tf.int32))
                loss = tf.reduce_mean(loss_of(x, model.decode(code, training=True)))
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        self.step = step

    def epoch(self) -> None:
        """One pass over the examples."""
        order = tf.random.shuffle(tf.range(self.count))
        for number in range(self.steps):
            loss = self.step(order[number * self.batch_size : (number + 1) * self.batch_size])
        loss.numpy()


class Turns(keras.callbacks.Callback):
    """Stops the clock as an epoch of `train.py` ends, validation apart, and lets the bare loop have its turn.

    What follows these callbacks, the checkpoint, counts for the next epoch.
    """

    def __init__(self, bare: BareLoop, epochs: int) -> None:
        super().__init__()
        self.bare, self.epochs = bare, epochs
        self.seconds: Seconds = {"train.py": [], "bare loop": []}

    def on_train_begin(self, logs: object = None) -> None:
        """Has the bare loop traced."""
        self.bare.epoch()
        self.began = time.perf_counter()

    def on_test_begin(self, logs: object = None) -> None:
        """Stops the clock."""
        self.paused = time.perf_counter()

    def on_test_end(self, logs: object = None) -> None:
        """Lets it go on."""
        self.began += time.perf_counter() - self.paused

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Takes the time of both, unless the epoch had pictures."""
        seconds = time.perf_counter() - self.began
        began = time.perf_counter()
        self.bare.epoch()
        self.began = time.perf_counter()
        if not any(due(epoch + 1, self.epochs, times) for times in (CLOSE_UPS_PER_RUN, PICTURES_PER_RUN)):
            self.seconds["train.py"].append(seconds)
            self.seconds["bare loop"].append(self.began - began)


def measure(words: list[str]) -> tuple[Seconds, int]:
    """Seconds of the epochs of a run, and the examples of each."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = compose([*words, f"output_dir={folder}/run"])
        run = RunDirectory(check(cfg))
        splits, trainer = train.build(cfg)
        turns = Turns(BareLoop(train.build(cfg)[1], splits.train), cfg.epochs)
        with run.claim():
            train.fit(run, trainer, splits, [turns])
    return turns.seconds, trainer.steps * trainer.batch_size


def run() -> str:
    """The section."""
    rows = []
    for model, (words, goal) in CASES.items():
        seconds, examples = measure(words)
        speed = {name: examples / statistics.median(values) for name, values in seconds.items()}
        share = ratio(seconds, "bare loop", "train.py")
        rows.append((model, f"{examples:,}", speed["train.py"], speed["bare loop"], verdict(share, goal)))
    head = ["model", "examples an epoch", "`train.py`, examples/s", "bare loop, examples/s", "share"]
    text = """Epochs of a run, everything logged as by default, in turns with epochs of a bare `tf.function` loop
over the same model with the data in memory, which measures and writes nothing. Of `train.py` all counts but validation:
the row in `metrics.csv`, TensorBoard, the checkpoint (at most every 2 s: the median epoch of image_mlp has none).
Epochs with pictures, 13 in a run at most, are left out: the section on telemetry has what they cost. `train.py` takes
several steps in one call of the graph, the bare loop a step a call; that is how it may be ahead.
"""
    return f"{text}\n{table(head, rows)}"

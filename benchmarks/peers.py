"""Other libraries: a training step of the same models in PyTorch and JAX."""

import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.timing import Seconds, in_turns, table, verdict
from conf import compose

THREADS, EXAMPLES, BATCH_SIZE = 2, 4000, 128
LEARNING_RATE, WEIGHT_DECAY = 0.002, 0.5
TOTAL_STEPS = 100_000  # of the cosine that the learning rate follows
ROUNDS, PATIENCE = 7, 60
GOALS = {"image_conv": 1.25, "image_mlp": 1.0}
STEPS = {"image_conv": 15, "image_mlp": 100}
OURS, BARE = "train.py's step", "bare tf.function"
PEERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "PyTorch": ("torch", "peer_torch", {}),
    "PyTorch, channels last": ("torch", "peer_torch", {"channels_last": True}),
    "PyTorch, torch.compile": ("torch", "peer_torch", {"compiled": True}),
    "JAX": ("jax", "peer_jax", {}),
}


def ours(model: str, bare: bool) -> tuple[int, Callable[[int], object]]:
    """The number of trainable parameters, and a function that makes so many training steps."""
    from train import build

    epochs = TOTAL_STEPS // (EXAMPLES // BATCH_SIZE)
    cfg = compose([f"model={model}", f"threads={THREADS}", f"epochs={epochs}", f"batch_size={BATCH_SIZE}"])
    splits, trainer = build(cfg)
    import tensorflow as tf

    from data.pipeline import training_batches
    from models.training import Steps

    network, optimizer = trainer.autoencoder, trainer.optimizer
    variables = network.trainable_variables
    batches = iter(training_batches(splits.train, BATCH_SIZE, 0, 0, epochs))
    trainer.start_epoch(closely=False)
    whole = Steps(trainer, batches)

    @tf.function(autograph=False)
    def step(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            code = network.soften(network.encode(x, training=True), tf.zeros(2, tf.int32))
            loss = tf.reduce_mean(trainer.error(x, network.decode(code, training=True)))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def steps(count: int) -> None:
        while count:
            count -= whole.take(count)

    def bare_steps(count: int) -> None:
        for _ in range(count):
            last = step(next(batches))
        last.numpy()

    return sum(int(tf.size(variable.value)) for variable in variables), bare_steps if bare else steps


def work(name: str, model: str, pipe: Connection) -> None:
    """A contestant's process: answers each number of steps with the seconds that they took."""
    if hasattr(os, "sched_setaffinity"):  # JAX takes as many threads as there are cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    if name in (OURS, BARE):
        parameters, steps = ours(model, name == BARE)
    else:
        _, module, options = PEERS[name]
        parameters, steps = importlib.import_module(f"benchmarks.{module}").prepare(model, **options)
    steps(3)
    pipe.send(parameters)
    for count in iter(pipe.recv, 0):
        began = time.perf_counter()
        steps(count)
        pipe.send(time.perf_counter() - began)


class Contestant:
    """A process that trains when it is asked to."""

    def __init__(self, name: str, model: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(name, model, other), daemon=True)
        self.process.start()
        other.close()

    def parameters(self) -> int | None:
        """As soon as it is ready; None if it ended, or takes longer than a minute."""
        try:
            return self.pipe.recv() if self.pipe.poll(PATIENCE) else None
        except EOFError:
            return None

    def train(self, steps: int) -> float:
        """The seconds of so many steps."""
        self.pipe.send(steps)
        return self.pipe.recv()

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join()


def measure(model: str, names: list[str]) -> tuple[Seconds, list[str]]:
    """Seconds of some steps of each in turns, and who did not get ready."""
    contestants, absent, parameters = {}, [], {}
    try:
        for name in names:
            contestant = Contestant(name, model)
            contestants[name] = contestant
            if (count := contestant.parameters()) is None:
                absent.append(name)
                contestants.pop(name).end()
            else:
                parameters[name] = count
        if len(set(parameters.values())) != 1:
            raise RuntimeError(f"the models of {model} differ: {parameters} parameters")
        calls = {name: lambda each=each: each.train(STEPS[model]) for name, each in contestants.items()}
        return in_turns(calls, ROUNDS), absent
    finally:
        for contestant in contestants.values():
            contestant.end()


def installed(package: str) -> str | None:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def run() -> str:
    """The section."""
    versions = {package: installed(package) for package in ("torch", "jax")}
    peers = [name for name, (package, *_) in PEERS.items() if versions[package]]
    if not peers:
        return "Neither PyTorch nor JAX is installed: `pip install torch jax`."
    rows, absent = [], set()
    for model, goal in GOALS.items():
        names = [name for name in peers if model == "image_conv" or "channels" not in name]
        seconds, missing = measure(model, [OURS, BARE, *names])
        absent.update(missing)
        speed = {name: STEPS[model] * BATCH_SIZE / statistics.median(values) for name, values in seconds.items()}
        best = max((name for name in speed if name not in (OURS, BARE)), key=speed.__getitem__)
        for name in speed:
            against = verdict(speed[OURS] / speed[best], goal) if name == OURS else ""
            rows.append((model, name, speed[name], speed[name] / speed[best], against))
    listed = ", ".join(f"{package} {number}" for package, number in versions.items() if number)
    text = f"""Examples per second of a training step, batches of {BATCH_SIZE} from memory, {THREADS} threads, each
contestant in a process of its own, in turns: medians of {ROUNDS} rounds. `train.py`'s step measures what it does by
default. Peers have the same layers and number of parameters, batch normalisation, bits rounded straight-through,
squared error and AdamW; PyTorch's is its fused one, JAX's step is compiled with its state donated. {listed}.
"""
    if absent:
        text += f"\nNot ready within a minute: {', '.join(sorted(absent))}.\n"
    return f"{text}\n{table(['model', 'step', 'examples/s', 'to the best peer', 'goal'], rows)}"

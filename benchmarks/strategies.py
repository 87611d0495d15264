"""Strategies: forward and backward of each against a copy."""

import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.timing import Seconds, in_turns, ratio, table, verdict
from conf import compose
from conf.checks import members

VALUES = 2**20
REPEATS = 10  # within one call, which takes as long as half a copy by itself
ROUNDS = 15
STEPS = 100  # of the training that a step, 25, is the place in
GOAL = 4.0
COPY, BITS = "a copy", "random bits alone"


def measure(threads: int | None, jit_compile: bool) -> tuple[Seconds, list[str]]:
    """Seconds of value and gradient of each in turns, and who is random; in a process that has no TensorFlow yet."""
    from telemetry import session

    session.start(threads, jit_compile)
    import tensorflow as tf

    from models.build import make_rounding
    from rounding import bind, takes_seed

    u, dy = tf.random.stateless_uniform([VALUES], [1, 2], -4, 4), tf.random.stateless_normal([VALUES], [3, 4])

    @tf.custom_gradient
    def copied(u: tf.Tensor) -> tuple[tf.Tensor, Callable]:  # tf.identity would hand on the same memory
        return tf.raw_ops.DeepCopy(x=u), lambda dy: tf.raw_ops.DeepCopy(x=dy)

    def draw(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        bits = tf.random.stateless_uniform([VALUES], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox")
        return tf.bitcast(bits, tf.float32), dy

    def both_ways(strategy: Callable, jit_compile: bool = jit_compile) -> Callable:
        @tf.function(autograph=False, jit_compile=jit_compile)
        def value_and_gradient(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            step = tf.cast(seed[0], tf.int64)
            with tf.GradientTape() as tape:
                tape.watch(u)
                code = bind(strategy, step=step, progress=tf.cast(step, tf.float32) / STEPS, seed=seed)(u)
            return code, tape.gradient(code, u, dy)

        return value_and_gradient

    def repeated(once: Callable) -> Callable[[], Any]:
        @tf.function(autograph=False)
        def loop(step: tf.Tensor) -> tuple:
            def body(number: tf.Tensor, *_: tf.Tensor) -> tuple:
                return number + 1, *once(tf.stack([step, number]))

            return tf.while_loop(lambda number, *_: number < REPEATS, body, (0, u, dy), parallel_iterations=1)

        return lambda: loop(tf.constant(25))

    strategies = {
        name: make_rounding(compose([f"rounding={name}", f"total_steps={STEPS}"]).rounding, STEPS)
        for name in members("rounding")
    }
    once = {COPY: both_ways(copied, False), BITS: draw, **{name: both_ways(f) for name, f in strategies.items()}}
    calls = {name: repeated(function) for name, function in once.items()}
    return in_turns(calls, ROUNDS, warm_up=2), [name for name in strategies if takes_seed(strategies[name])]


def run() -> str:
    """The section."""
    settings = {"one thread": (1, False), "default threads": (None, False), "one thread, XLA": (1, True)}
    measured: dict[str, Seconds] = {}
    for setting, arguments in settings.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            measured[setting], random = process.submit(measure, *arguments).result()
    seconds = measured["one thread"]
    bits = ratio(seconds, BITS, COPY)
    rows = []
    for name in sorted(seconds, key=lambda name: statistics.median(seconds[name])):
        ratios = [ratio(values, name, COPY) for values in measured.values()]
        beyond = ratios[0] - bits * (name in random)
        goal = "" if name in (COPY, BITS) else verdict(beyond, GOAL, at_most=True)
        milliseconds = 1000 * statistics.median(seconds[name]) / REPEATS
        rows.append((name, milliseconds, ratio(seconds, name, "straight_through"), *ratios, goal))
    head = ["strategy", "ms", "to `straight_through`", *(f"to a copy, {setting}" for setting in settings), "goal"]
    text = f"""Forward and backward over 2^20 float32 values in a compiled graph, {REPEATS} times a call so that the
call itself does not count, against copying both ways. Milliseconds, the ratio to `straight_through` and the goal are of
one thread. Random strategies draw 32 bits a value, which alone take {bits:.3g} copies: for them the goal is about what
comes on top. Where it is missed: each operation of TensorFlow is a pass of its own over the memory, a sine takes as
long as several. XLA (`jit_compile=true`) fuses the passes, but its own sines are slow.
"""
    return f"{text}\n{table(head, rows)}"

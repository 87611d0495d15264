"""The contract of the strategies, checked on every one that the folders hold."""

import ast
import functools
import inspect
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from strategies import (
    BY_NAME,
    CODE,
    CONF,
    DETERMINISTIC,
    HYPERPARAMETERS,
    ORACLES,
    OUTCOMES,
    RANDOM,
    STRATEGIES,
    Strategy,
    cases,
    expected,
    extremes,
    soft_round,
    soft_round_inverse,
)

from conf import compose

WITH_ORACLE = [strategy for strategy in DETERMINISTIC if strategy.function in ORACLES]
WITH_OUTCOMES = [strategy for strategy in RANDOM if strategy.function in OUTCOMES]
EVERY = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
EVERY_DETERMINISTIC = pytest.mark.parametrize("strategy", DETERMINISTIC, ids=lambda s: s.name)
EVERY_RANDOM = pytest.mark.parametrize("strategy", RANDOM, ids=lambda s: s.name)
DTYPES = pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])


def every_case(strategies):
    """Each strategy at each of its hyperparameters to compare."""
    return pytest.mark.parametrize(
        ("strategy", "values"),
        [
            pytest.param(strategy, values, id="-".join([strategy.name, *map(str, values.values())]))
            for strategy in strategies
            for values in cases(strategy)
        ],
    )


EVERY_CASE = every_case(WITH_ORACLE)
EVERY_RANDOM_CASE = every_case(WITH_OUTCOMES)


@pytest.fixture(scope="session")
def tf():
    import tensorflow

    return tensorflow


@pytest.fixture(scope="session")
def run(tf):
    """`run(f, u, dy)`: value and gradient of a strategy, as NumPy arrays; `mode` says how.

    Unless it is said, loops of more than 100 steps run in a graph, since eagerly they take a second.
    """

    def value_and_gradient(f, u, dy):
        with tf.GradientTape() as tape:
            tape.watch(u)
            code = f(u)
        return code, tape.gradient(code, u, output_gradients=dy)

    def run(f, u, dy=None, mode=None):
        steps = max(f.keywords.get(name, 0) for name in ("iterations", "terms"))
        mode = mode or ("graph" if steps > 100 else "eager")
        u = tf.convert_to_tensor(u)
        dy = tf.ones_like(u) if dy is None else tf.convert_to_tensor(dy)
        call = value_and_gradient
        if mode != "eager":
            call = tf.function(value_and_gradient, jit_compile=mode == "xla")
        value, gradient = call(f, u, dy)
        assert value.dtype == gradient.dtype == u.dtype
        assert value.shape == gradient.shape == u.shape
        return SimpleNamespace(value=value.numpy(), gradient=gradient.numpy())

    return run


def sample(dtype):
    """Random values, exact integers and exact halves."""
    random = np.random.default_rng(0).uniform(-4, 4, 400)
    return np.concatenate([random, np.arange(-5, 6), np.arange(-5, 5) + 0.5]).astype(dtype)


def awkward(dtype):
    """Integers, halves, large numbers, subnormals, and the nearest neighbours of all of them."""
    info = np.finfo(dtype)
    points = [*np.arange(-3, 3.5, 0.5), 1e4, -1e4, 10000.5, info.eps, info.tiny, info.smallest_subnormal, info.max]
    points = np.array([*points, -info.max], dtype)
    neighbours = [np.nextafter(points, np.array(towards, dtype)) for towards in (-1e4, 0, 1e4)]
    return np.unique(np.concatenate([points, *neighbours]))


def nowhere_near(u, place, distance=0.02):
    """The points whose place in the cell keeps clear of the given one."""
    return u[np.abs((u - place) - np.rint(u - place)) > distance]


def assert_close(actual, desired, scale, ulps):
    """Compares in units of the last place of `scale`."""
    eps = 2.0**-7 if actual.dtype.name == "bfloat16" else np.finfo(actual.dtype).eps
    error = np.abs(actual.astype(np.float64) - desired) / (scale * float(eps))
    assert np.max(error) <= ulps, f"{np.max(error):.1f} ulp off at index {np.argmax(error)}"


# The folder


def test_there_are_strategies():
    assert {"identity", "hard", "straight_through", "soft_round"} <= BY_NAME.keys()


def test_every_file_has_its_yaml():
    modules = {path.stem for path in CODE.glob("[!_]*.py")}
    assert modules <= BY_NAME.keys(), f"no YAML in conf/rounding for {sorted(modules - BY_NAME.keys())}"


@EVERY_DETERMINISTIC
def test_has_an_oracle(strategy):
    assert strategy.function in ORACLES, (
        f"{strategy.function} has no `seed`, so it is deterministic: add its closed form to ORACLES in strategies.py"
    )


@EVERY_RANDOM
def test_has_outcomes(strategy):
    assert strategy.function in OUTCOMES, (
        f"{strategy.function} has a `seed`, so it is random: add what becomes of its noise to OUTCOMES in strategies.py"
    )


def test_every_oracle_has_its_strategy():
    assert ORACLES.keys() <= {strategy.function for strategy in DETERMINISTIC}
    assert OUTCOMES.keys() <= {strategy.function for strategy in RANDOM}


@EVERY
def test_yaml_opens_with_a_command_that_uses_it(strategy):
    program, script, choice, *overrides = (CONF / f"{strategy.name}.yaml").read_text().splitlines()[0][2:].split()
    assert (program, script, choice) == ("python", "train.py", f"rounding={strategy.name}")
    assert compose([choice, *overrides]).rounding["_target_"] == strategy.config["_target_"]


@EVERY
def test_yaml_and_signature_agree(strategy):
    function = strategy.build().func.func
    assert strategy.config["_target_"] == f"rounding.{strategy.function}.{strategy.function}"
    assert strategy.config["_partial_"] is True
    u, *keywords = inspect.signature(function).parameters.values()
    assert inspect.signature(function).parameters.keys() - {"u", "seed", "progress"} == {
        key for key in strategy.config if not key.startswith("_")
    }
    assert (u.name, u.kind) == ("u", u.POSITIONAL_OR_KEYWORD)
    assert all(keyword.kind == keyword.KEYWORD_ONLY for keyword in keywords)
    assert all(keyword.annotation is not keyword.empty for keyword in keywords)
    defaults = {keyword.name: keyword.default for keyword in keywords if keyword.default is not keyword.empty}
    assert not {"seed", "progress"} & defaults.keys()
    if strategy.name == strategy.function:
        assert strategy.hyperparameters == defaults
    assert all(half in function.__doc__ for half in ("forward  ", "backward  "))


def test_folder_needs_only_tensorflow(tmp_path):
    """Copied alone, under another name, every strategy still runs, and README's ten lines train."""
    readme = (CODE.parent / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    shutil.copytree(CODE, tmp_path / "borrowed", ignore=shutil.ignore_patterns("__pycache__"))
    allowed = {"tensorflow", *sys.stdlib_module_names}
    for path in CODE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.partition(".")[0] in allowed, path
    script = f"""
import functools, importlib, sys
import tensorflow as tf
from borrowed import bind
for name in {[strategy.function for strategy in STRATEGIES]}:
    members = dict(before=tf.round, after=tf.floor) if name == "switch" else {{}}
    function = functools.partial(getattr(importlib.import_module("borrowed." + name), name), **members)
    print(name, bind(function, step=0, progress=0.0, seed=[1, 2])(tf.constant([0.0, 1.0])).shape)
assert not {{"rounding", "hydra", "omegaconf"}} & sys.modules.keys()

{readme.replace("from rounding.", "from borrowed.")}
model.compile("adam", "mse")
before, x = model.get_weights()[0], tf.random.uniform([32, 784])
model.fit(x, x, verbose=0)
assert (model.get_weights()[0] != before).any()
code = model.layers[1](model.layers[0](x))
assert set(code.numpy().ravel()) == {{0.0, 1.0}}
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(STRATEGIES)


# Values and gradients


@EVERY_CASE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_the_closed_form(run, strategy, values, dtype):
    u = sample(dtype)
    value, slope = expected(strategy, u, **values)
    actual = run(strategy.build(**values), u)
    assert_close(actual.value, value, np.maximum(1, np.abs(u)) * np.maximum(1, np.abs(slope)), ulps=20)
    assert_close(actual.gradient, slope, np.maximum(1, np.max(np.abs(slope))), ulps=60)


@EVERY_CASE
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once(run, tf, strategy, values, dtype):
    """Computed in float32, a half-precision result is at most one rounding away from the closed form."""
    u = sample(tf.as_dtype(dtype).as_numpy_dtype)
    value, slope = expected(strategy, u, **values)
    actual = run(strategy.build(**values), u)
    peak = np.max(np.abs(slope))
    assert_close(actual.value, value, np.maximum(1, np.abs(value)), ulps=0.6)
    assert_close(actual.gradient, slope, np.abs(slope) + 1e-3 * np.maximum(1, peak), ulps=0.6)


def assert_gradient_scales(run, f, linear):
    """With the upstream one; where it is not linear in that, with its size."""
    u = sample("float64")
    dy = np.random.default_rng(1).normal(size=u.shape)
    unit = np.ones_like(dy) if linear else np.sign(dy)
    np.testing.assert_allclose(run(f, u, dy).gradient, dy / unit * run(f, u, unit).gradient, rtol=1e-14)


@EVERY_CASE
def test_gradient_is_multiplied_by_the_upstream_one(run, strategy, values):
    assert_gradient_scales(run, strategy.build(**values), ORACLES[strategy.function].linear)


LIMITS = [
    ("soft_round", {"alpha": 0}, "identity"),
    ("soft_round", {"alpha": 1e-30}, "identity"),
    ("soft_round", {"alpha": 1e30}, "hard"),
    ("scaled_sigmoid", {"steepness": 1e-30}, "identity"),
    ("scaled_sigmoid", {"steepness": 1e30}, "hard"),
    ("steep_sigmoid", {"slope": 1e30}, "hard"),
    ("ramp", {"threshold": 0.5, "slope": 1e30}, "hard"),
    ("sine", {"iterations": 1000}, "hard"),
    ("cubic", {"power": 999}, "hard"),
    ("soft_gradient", {"alpha": 0}, "straight_through"),
    ("soft_gradient", {"alpha": 1e30}, "hard"),
    ("ewgs", {"delta": 0}, "straight_through"),
]


@pytest.mark.parametrize(("name", "values", "limit"), LIMITS, ids=lambda p: str(p))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits(run, name, values, limit, dtype):
    u = nowhere_near(sample(dtype), 0.5)
    actual, desired = run(BY_NAME[name].build(**values), u), run(BY_NAME[limit].build(), u)
    np.testing.assert_allclose(actual.value, desired.value, atol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(actual.gradient, desired.gradient, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("name", "values", "place", "offset"),
    [
        ("ramp", {"slope": 1e-30}, 0.0, 0.0),
        ("ramp", {"threshold": 1 - 1e-9, "slope": 1e30}, 0.0, 0.0),
        ("ramp", {"threshold": 1e-9, "slope": 1e30}, 0.0, 1.0),
        ("steep_sigmoid", {"slope": 1e-30}, 0.0, 0.5),
        ("steep_sigmoid", {"slope": 1e30, "center": 0.25}, 0.25, None),
        ("fourier", {"terms": 1000}, 0.5, None),
        ("fourier", {"terms": 1000, "window": "none"}, 0.5, None),
    ],
)
def test_limits_of_the_value(run, name, values, place, offset):
    """A step at `place`, or `floor(u)` plus an offset."""
    u = nowhere_near(sample("float64"), place)
    step = np.floor(u - place) + 1 if offset is None else np.floor(u) + offset
    np.testing.assert_allclose(run(BY_NAME[name].build(**values), u).value, step, atol=6e-3)


@EVERY
@DTYPES
def test_finite_everywhere(run, strategy, dtype):
    """At the awkward points, at the extremes of every hyperparameter, for upstream gradients of any size."""
    u, largest = awkward(dtype), np.finfo(dtype).max
    dy = np.repeat(np.array([1, 0, largest, -largest], dtype), len(u))
    for values in extremes(strategy):
        actual = run(strategy.build(**values), np.tile(u, 4), dy)
        assert np.all(np.isfinite(actual.value)), values
        assert np.all(np.isfinite(actual.gradient)), values
        assert np.all(np.abs(actual.value - np.tile(u, 4)) <= 1.5), values


@DTYPES
@pytest.mark.parametrize("values", [{"slope": 1e300, "center": 0.5}, {"slope": 1e5, "center": 0.5}], ids=str)
def test_gradient_saturates(run, values, dtype):
    """A gradient beyond the dtype's range is the largest number, with its sign: not 0, not infinite."""
    largest = np.finfo(dtype).max
    dy = np.array([largest, -largest], dtype)
    actual = run(BY_NAME["steep_sigmoid"].build(**values), np.array([0.5, 1.5], dtype), dy)
    np.testing.assert_array_equal(actual.gradient, dy)


def test_nan_upstream_is_not_hidden(run):
    for strategy in WITH_ORACLE:
        if strategy.function != "hard":
            assert np.isnan(run(strategy.build(), np.float32([0.25]), np.float32([np.nan])).gradient), strategy


@EVERY_DETERMINISTIC
@DTYPES
def test_commutes_with_integer_shifts(run, strategy, dtype):
    """Where u + k is exact; by even k at the halves, where ties go to even."""
    u = np.round(np.random.default_rng(2).uniform(-3, 3, 200) * 64) / 64  # exact in float16 up to 16
    halves = np.arange(-3, 3) + 0.5
    f, eps = strategy.build(), np.finfo(dtype).eps
    for points, shifts in [(nowhere_near(u, 0.5, 1e-3), (-5, 1, 8)), (halves, (-4, 2, 8))]:
        base = run(f, points.astype(dtype))
        for k in shifts:
            moved = run(f, (points + k).astype(dtype))
            np.testing.assert_allclose(moved.value.astype(float) - k, base.value, atol=8 * eps)
            np.testing.assert_array_equal(moved.gradient, base.gradient)


MODES = [(strategy, {}) for strategy in STRATEGIES] + [
    (BY_NAME["fourier"], {"terms": 50}),  # a loop rather than unrolled
    (BY_NAME["sine"], {"iterations": 9}),
    (BY_NAME["soft_round"], {"alpha": 0}),
]


@pytest.mark.parametrize(("strategy", "values"), MODES, ids=lambda p: p.name if isinstance(p, Strategy) else str(p))
def test_eager_graph_and_xla_agree(run, strategy, values):
    u, f = sample("float32"), strategy.build(**values)
    eager = run(f, u)
    peak = max(1, np.max(np.abs(eager.gradient)))
    scale = np.maximum(1, np.abs(u)) * np.maximum(1, np.abs(eager.gradient))
    for mode in ("graph", "xla"):
        other = run(f, u, mode=mode)
        assert_close(other.value, eager.value, scale, ulps=16)
        assert_close(other.gradient, eager.gradient, peak, ulps=64)


@EVERY
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_keeps_shape_and_dtype(run, tf, strategy, shape, dtype):
    run(strategy.build(), tf.cast(tf.fill(shape, 0.3), dtype))  # `run` checks them


@EVERY
def test_shape_may_be_unknown(tf, run, strategy):
    f = strategy.build()
    unknown = tf.function(lambda u: f(u), input_signature=[tf.TensorSpec(None, tf.float32)])
    u = np.linspace(-2, 2, 6, dtype=np.float32)
    for shape in [(6,), (2, 3)]:
        np.testing.assert_allclose(unknown(u.reshape(shape)), f(tf.constant(u.reshape(shape))), atol=1e-6)


def test_loops_with_unknown_shapes(tf):
    for name, values in [("fourier", {"terms": 20}), ("sine", {"iterations": 20})]:
        f = BY_NAME[name].build(**values)
        unknown = tf.function(f, input_signature=[tf.TensorSpec([None, None], tf.float32)])
        u = tf.constant([[0.1, 0.2, 0.9]])
        np.testing.assert_allclose(unknown(u), f(u), atol=1e-5)


@EVERY_CASE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_monotone(run, strategy, values, dtype):
    if values.get("window") == "none":
        pytest.skip("the plain series rings, by definition")
    u = np.linspace(-2, 2, 2049).astype(dtype)
    actual = run(strategy.build(**values), u)
    assert np.min(np.diff(actual.value)) >= -64 * np.finfo(dtype).eps
    assert np.min(actual.gradient) >= 0


# Noise

DRAWS = 100_000
SIGMAS = 5  # of an estimate's error: a right one is further off once in 1.7 million seeds


def draws(run, strategy, u, dtype="float64", **values):
    """Value and gradient of so many draws at each place `u`: `[places, draws]`."""
    return run(strategy.build(**values), np.repeat(np.array(u, dtype)[:, None], DRAWS, axis=1))


def outcomes(strategy, u, **values):
    """Value and slope that the draws should be like: `[places, quantiles]`, with the noise's extremes."""
    p = np.concatenate([[1e-9], (np.arange(DRAWS) + 0.5) / DRAWS, [1 - 1e-9]])
    return OUTCOMES[strategy.function].curve(np.array(u)[:, None], p[None], **values)


def assert_mean(actual, desired):
    """The mean over the last axis, and that of the squared deviations, within sigmas of their errors."""
    mean = desired.mean(-1, keepdims=True)
    for moment in (lambda x: x, lambda x: (x - mean) ** 2):
        error = np.abs(moment(actual).mean(-1) - moment(desired).mean(-1))
        assert np.all(error <= SIGMAS * moment(desired).std(-1) / DRAWS**0.5 + 1e-12), error


PLACES = (-2.7, -1, 0, 0.1, 0.5, 0.8, 3.4)


@EVERY_RANDOM_CASE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_have_the_stated_distribution(run, strategy, values, dtype):
    """Kolmogorov-Smirnov distance, which passes 0.01 once in 2e8 seeds; range, mean, variance, and the slope's."""
    actual = draws(run, strategy, PLACES, dtype, **values)
    drawn_value, drawn_slope = actual.value.astype("float64"), actual.gradient.astype("float64")
    value, slope = outcomes(strategy, np.array(PLACES, dtype).astype("float64"), **values)
    # float32 has fewer values next to an integer than float64: both are compared to five decimals.
    for drawn, stated in zip(np.round(drawn_value, 5), np.round(value, 5), strict=True):
        steps = np.concatenate([drawn, stated])
        below = [np.searchsorted(np.sort(x), steps, side="right") / len(x) for x in (drawn, stated)]
        assert np.max(np.abs(below[0] - below[1])) < 0.01
        assert np.all((drawn >= stated.min() - 2e-5) & (drawn <= stated.max() + 2e-5))
    assert_mean(drawn_value, value)
    assert_mean(drawn_slope, slope)


@EVERY_RANDOM_CASE
def test_random_gradient_is_multiplied_by_the_upstream_one(run, strategy, values):
    assert_gradient_scales(run, strategy.build(**values), OUTCOMES[strategy.function].linear)


@EVERY_RANDOM
@DTYPES
def test_same_seed_same_values(run, strategy, dtype):
    u, f = sample(dtype), strategy.build()
    once, again = run(f, u), run(f, u)
    np.testing.assert_array_equal(again.value, once.value)
    np.testing.assert_array_equal(again.gradient, once.gradient)


@EVERY_RANDOM
def test_another_seed_other_values(run, strategy):
    u = sample("float32")
    base = run(strategy.build(), u).value
    for seed in ([1, 3], [2, 2], [2, 1], [-1, 2], [1, -2]):
        assert np.mean(run(strategy.build(seed=seed), u).value != base) > 0.2, seed


@EVERY_RANDOM
def test_elements_are_independent(run, strategy):
    """Correlation along and across the rows of a matrix, all of it at the same place."""
    value = run(strategy.build(), np.full((200, 500), 0.3)).value.ravel()
    for lag in (1, 2, 3, 4, 5, 8, 16, 500, 1000):
        assert abs(np.corrcoef(value[:-lag], value[lag:])[0, 1]) < SIGMAS / (value.size - lag) ** 0.5, lag


@EVERY_RANDOM
def test_seeds_are_independent(run, strategy):
    """Correlation of all steps of neighbouring runs, element by element and with the element next to it."""
    seeds = [(run_seed, step) for run_seed in (0, 1, 2) for step in (*range(8), 1000, 1001)]
    values = np.array([run(strategy.build(seed=seed), np.full(10_000, 0.3)).value for seed in seeds])
    both = np.concatenate([values[:, 1:], values[:, :-1]])
    correlation = np.corrcoef(both) - np.eye(len(both))
    assert np.abs(correlation).max() < SIGMAS / values.shape[1] ** 0.5


@EVERY_RANDOM
def test_seed_may_be_a_tensor_of_the_step(tf, run, strategy):
    """As training gives it: another value each step, one trace; and whatever int32 can hold."""
    traces = []

    @tf.function(autograph=False)
    def step(u, seed):
        traces.append(seed)
        return strategy.build(seed=seed)(u)

    u = sample("float32")
    for seed in ([0, 0], [0, 1], [7, 10**6], [-1, -1], [2**31 - 1, -(2**31)]):
        given = tf.constant(seed, tf.int32)
        eager = run(strategy.build(seed=given), u).value
        np.testing.assert_allclose(step(tf.constant(u), given), eager, atol=2e-6)
        for same in (seed, tuple(seed), np.array(seed, "int32"), tf.Variable(given)):
            np.testing.assert_array_equal(run(strategy.build(seed=same), u).value, eager)
    assert len(traces) == 1


@EVERY_RANDOM
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_random_half_precision_is_rounded_once(run, tf, strategy, dtype):
    """The float32 result with the same noise, cast."""
    u = tf.cast(sample("float32"), dtype)
    half, single = run(strategy.build(), u), run(strategy.build(), tf.cast(u, tf.float32))
    np.testing.assert_array_equal(half.value, tf.cast(single.value, dtype))
    np.testing.assert_array_equal(half.gradient, tf.cast(single.gradient, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_is_the_same_bit_for_bit_however_it_runs(tf, dtype):
    from rounding._noise import uniform

    compiled = tf.function(uniform), tf.function(uniform, jit_compile=True)
    for shape in [(1,), (7, 143)]:
        for seed in ([0, 0], [1, 2], [-5, 2**31 - 1]):
            given = tf.zeros(shape, dtype), tf.constant(seed)
            for mode in compiled:
                np.testing.assert_array_equal(mode(*given), uniform(*given))


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 24), ("float32", 24), ("float64", 53)])
def test_noise_lies_strictly_within_the_cell_and_on_both_sides_alike(tf, dtype, bits):
    """Odd multiples of half a grid step: as fine as the computing dtype holds, symmetric, never 0 or 1/2."""
    from rounding._noise import uniform

    steps = uniform(tf.zeros(DRAWS, dtype), [1, 2]).numpy().astype("float64") * 2.0 ** (bits + 1)
    np.testing.assert_array_equal(steps % 2, 1)
    assert 0.999 * 2**bits < np.max(np.abs(steps)) < 2**bits
    assert abs(np.mean(steps > 0) - 0.5) < SIGMAS * 0.5 / DRAWS**0.5


# Hyperparameters


@EVERY
def test_ranges_are_listed(strategy):
    unknown = strategy.hyperparameters.keys() - HYPERPARAMETERS.keys()
    assert not unknown, f"add {sorted(unknown)} to HYPERPARAMETERS in tests/strategies.py: extreme and refused values"


@pytest.mark.parametrize(
    ("strategy", "name", "value"),
    [
        pytest.param(strategy, name, value, id=f"{strategy.name}-{name}-{str(value)[:9]}")
        for strategy in STRATEGIES
        for name in strategy.hyperparameters  # in their order: processes that share the tests must agree on it
        if name in HYPERPARAMETERS
        for value in HYPERPARAMETERS[name].refused
    ],
)
def test_out_of_range_is_refused(tf, strategy, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .+, got ") as refusal:
        strategy.build(**{name: value})(tf.constant([0.3]))
    assert str(refusal.value).endswith(f"got {value!r}")


def test_message_reads_well(tf):
    with pytest.raises(ValueError, match=r"^alpha must be a finite number >= 0, got -1$"):
        BY_NAME["soft_round"].build(alpha=-1)(tf.constant([0.3]))


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        pytest.param(strategy, name, id=f"{strategy.name}-{name}")
        for strategy in STRATEGIES
        for name, value in strategy.hyperparameters.items()
        if isinstance(value, float)
    ],
)
def test_hyperparameter_may_be_a_tensor(tf, run, strategy, name):
    """As an annealing schedule gives it: another value each step, one trace, a float32 even for a float64 `u`."""
    traces, f = [], strategy.build()

    @tf.function(autograph=False)
    def step(u, value):
        traces.append(value)
        with tf.GradientTape() as tape:
            tape.watch(u)
            code = f(u, **{name: value})
        return code, tape.gradient(code, u)

    for u in (sample("float32"), sample("float64")):
        traces.clear()
        for value in (0.25, 0.75):  # exact in every dtype
            by_number = run(strategy.build(**{name: value}), u)
            for given in (tf.constant(value), tf.Variable(value)):
                code, gradient = step(tf.constant(u), tf.convert_to_tensor(given))
                np.testing.assert_allclose(code, by_number.value, atol=1e-5)
                np.testing.assert_allclose(gradient, by_number.gradient, atol=1e-5, rtol=1e-5)
        assert len(traces) == 1
        by_variable = run(strategy.build(**{name: tf.Variable(0.75)}), u)
        np.testing.assert_array_equal(by_variable.gradient, by_number.gradient)


@pytest.mark.parametrize(("name", "key"), [("fourier", "terms"), ("sine", "iterations")])
def test_graph_does_not_grow(tf, run, name, key):
    def operations(count):
        f = tf.function(BY_NAME[name].build(**{key: count}))
        return len(f.get_concrete_function(tf.TensorSpec([3], tf.float32)).graph.as_graph_def().node)

    assert operations(1000) == operations(9) < 200


# What single strategies claim


def test_straight_through_is_exactly_round(run):
    f = BY_NAME["straight_through"].build()
    for dtype in ("float16", "float32", "float64"):
        u = np.concatenate([awkward(dtype), sample(dtype), np.array([1e-8, -1e-8, 0.1, 2047.5, -2049], dtype)])
        actual = run(f, u)
        np.testing.assert_array_equal(actual.value, np.rint(u))
        np.testing.assert_array_equal(actual.gradient, np.ones_like(u))
        np.testing.assert_array_equal(run(f, u, mode="xla").value, np.rint(u))


@DTYPES
def test_uniform_noise_is_the_same_bit_for_bit_under_xla(run, dtype):
    u, f = np.concatenate([awkward(dtype), sample(dtype)]), BY_NAME["uniform_noise"].build()
    eager, xla = run(f, u), run(f, u, mode="xla")
    np.testing.assert_array_equal(xla.value, eager.value)
    np.testing.assert_array_equal(xla.gradient, np.ones_like(u))


@DTYPES
def test_custom_gradient_is_straight_through(run, dtype):
    u = np.concatenate([awkward(dtype), sample(dtype)])
    dy = np.random.default_rng(3).normal(size=u.shape).astype(dtype)
    one, other = (run(BY_NAME[name].build(), u, dy) for name in ("custom_gradient", "straight_through"))
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.gradient, other.gradient)


@pytest.mark.parametrize("steepness", [1e-30, 0.5, 10, 100, 1e30])
def test_scaled_sigmoid_is_soft_round(run, steepness):
    u = sample("float32")
    one = run(BY_NAME["scaled_sigmoid"].build(steepness=steepness), u)
    other = run(BY_NAME["soft_round"].build(alpha=steepness / 2), u)
    scale = max(1, np.max(other.gradient))
    np.testing.assert_allclose(one.value, other.value, atol=1e-6)
    np.testing.assert_allclose(one.gradient / scale, other.gradient / scale, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sine", {}),
        ("sine", {"iterations": 1000}),
        ("cosine", {}),
        ("fourier", {}),
        ("fourier", {"terms": 1000, "window": "none"}),
    ],
)
@DTYPES
def test_integers_and_halves_stay_exactly(run, name, values, dtype):
    u = np.arange(-10, 10.5, 0.5).astype(dtype)
    np.testing.assert_array_equal(run(BY_NAME[name].build(**values), u).value, u)


@pytest.mark.parametrize(
    ("name", "values", "integers", "halves"),
    [
        ("hard", {}, 0, 0),
        ("sine", {}, 0, 2),
        ("sine", {"iterations": 9}, 0, 512),
        ("cosine", {}, 0, np.pi / 2),
        ("cubic", {}, 0, 0.75),
        ("fourier", {"window": "none"}, -1, 11),
        ("fourier", {"window": "none", "terms": 4}, 1, 9),
        ("fourier", {}, 0, 6),
        ("soft_round", {}, 3 / np.sinh(3), 1.5 / np.tanh(1.5)),
    ],
)
def test_slopes_that_the_docstrings_state(run, name, values, integers, halves):
    f = BY_NAME[name].build(**values)
    np.testing.assert_allclose(run(f, np.arange(-4.0, 5)).gradient, integers, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(run(f, np.arange(-4.0, 5) + 0.5).gradient, halves, rtol=1e-13, atol=1e-15)


def test_iterations_compose(run):
    """The loop of many iterations is the repetition of one, its slope the chain rule."""
    u = np.linspace(-0.49, 0.49, 99)
    many = run(BY_NAME["sine"].build(iterations=12), u)
    value, slope = u, np.ones_like(u)
    for _ in range(12):
        once = run(BY_NAME["sine"].build(), value)
        value, slope = once.value, slope * once.gradient
    np.testing.assert_allclose(many.value, value, atol=1e-12)
    np.testing.assert_allclose(many.gradient, slope, rtol=1e-9, atol=1e-12)


def test_plain_series_is_not_monotone(run):
    """Why the Fejér weights are the default."""
    u = np.linspace(0, 1, 1001)
    assert np.min(np.diff(run(BY_NAME["fourier"].build(window="none"), u).value)) < 0
    assert np.min(np.diff(run(BY_NAME["fourier"].build(), u).value)) >= 0


# What moves in training

LINE = {
    "_target_": "keras.optimizers.schedules.PolynomialDecay",
    "initial_learning_rate": 1.0,
    "end_learning_rate": 5.0,
    "decay_steps": 100,
}


@pytest.mark.parametrize(("step", "alpha"), [(0, 1), (25, 2), (100, 5), (1000, 5)])
def test_schedule_gives_a_hyperparameter_its_value_at_a_step(run, step, alpha):
    u, annealed = sample("float32"), Strategy("soft_round", {**BY_NAME["soft_round"].config, "alpha": LINE})
    actual, fixed = run(annealed.build(step=step), u), run(BY_NAME["soft_round"].build(alpha=alpha), u)
    np.testing.assert_allclose(actual.value, fixed.value, atol=1e-6)
    np.testing.assert_allclose(actual.gradient, fixed.gradient, atol=1e-5)


def test_schedules_are_not_retraced(tf):
    strategy = Strategy("soft_round", {**BY_NAME["soft_round"].config, "alpha": LINE})
    traces = []

    @tf.function(autograph=False)
    def train(u, step):
        traces.append(step)
        return strategy.build(step=step)(u)

    values = [float(train(tf.constant([0.3]), tf.constant(step))[0]) for step in (0, 50, 100)]
    assert values == sorted(values, reverse=True), "rounded down ever more"
    assert len(traces) == 1


@pytest.mark.parametrize("random_one", RANDOM, ids=lambda s: s.name)
@pytest.mark.parametrize(("progress", "stage"), [(0.49, "before"), (0.5, "after")])
def test_switch_is_one_strategy_and_then_the_other(run, random_one, progress, stage):
    u = sample("float32")
    both = {"before": random_one.config, "after": BY_NAME["cubic"].config}
    f = Strategy("switch", {**BY_NAME["switch"].config, **both, "at": 0.5}).build(progress=progress)
    expected = run({"before": random_one, "after": BY_NAME["cubic"]}[stage].build(), u)
    for mode in ("eager", "graph"):
        actual = run(f, u, mode=mode)
        np.testing.assert_allclose(actual.value, expected.value, atol=1e-6)
        np.testing.assert_allclose(actual.gradient, expected.gradient, rtol=1e-5, atol=1e-6)


def test_what_moves_is_told_by_name(tf):
    import hydra

    from rounding import in_force, takes_seed

    inner = {**BY_NAME["soft_round"].config, "alpha": LINE}
    outer = {**BY_NAME["switch"].config, "before": inner, "after": inner, "at": {**LINE, "initial_learning_rate": 0.0}}
    strategy = hydra.utils.instantiate(outer)
    values = {name: float(value) for name, value in in_force(strategy, step=50, progress=0.5).items()}
    assert values == {"at": 2.5, "progress": 0.5, "before.alpha": 3, "after.alpha": 3}
    assert not takes_seed(strategy)
    assert in_force(hydra.utils.instantiate(BY_NAME["sine"].config), step=50, progress=0.5) == {}


@pytest.mark.parametrize("member", ["before", "after"])
@pytest.mark.parametrize("value", ["soft_round", 3, None])
def test_switch_refuses_what_is_no_strategy(tf, member, value):
    with pytest.raises(ValueError, match=rf"^{member} must be a strategy, .* got {value!r}$"):
        BY_NAME["switch"].build(**{member: value})(tf.constant([0.3]))


def test_eager_tensors_are_checked_like_numbers(tf):
    with pytest.raises(ValueError, match=r"^alpha must be a finite number >= 0, got -1\.0$"):
        BY_NAME["soft_round"].build(alpha=tf.constant(-1.0))(tf.constant([0.3]))
    with pytest.raises(ValueError, match=r"^iterations must be an integer from 1 to 10000, got 2\.0$"):
        BY_NAME["sine"].build(iterations=tf.constant(2.0))(tf.constant([0.3]))


# Soft rounding's way back


def inverse(alpha):
    from rounding.soft_round import soft_round_inverse

    return functools.partial(soft_round_inverse, alpha=alpha)


def conditional_mean(alpha):
    from rounding.soft_round import soft_round_conditional_mean

    return functools.partial(soft_round_conditional_mean, alpha=alpha)


BOTH_WAYS_BACK = pytest.mark.parametrize("way_back", [inverse, conditional_mean])


@pytest.mark.parametrize("alpha", [0, 1e-6, 0.5, 3, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_way_back_equals_the_closed_form(run, alpha, dtype):
    y = sample(dtype)
    wide = y.astype("float64")
    for f, (value, slope) in [
        (inverse(alpha), soft_round_inverse(wide, alpha)),
        (conditional_mean(alpha), np.add(soft_round_inverse(wide - 0.5, alpha), [[0.5], [0]])),
    ]:
        actual = run(f, y)
        assert_close(actual.value, value, np.maximum(1, np.abs(y)) * np.maximum(1, slope), ulps=20)
        assert_close(actual.gradient, slope, np.maximum(1, slope**2), ulps=60)


@pytest.mark.parametrize("alpha", [0, 1e-30, 1e-3, 0.5, 3, 10])
def test_inverse_undoes_soft_round(run, alpha):
    u = sample("float64")
    there = run(BY_NAME["soft_round"].build(alpha=alpha), u)
    back = run(inverse(alpha), there.value)
    np.testing.assert_allclose(back.value, u, atol=1e-11)
    np.testing.assert_allclose(back.gradient * there.gradient, 1, rtol=1e-9)
    again = run(BY_NAME["soft_round"].build(alpha=alpha), run(inverse(alpha), u).value)
    np.testing.assert_allclose(again.value, u, atol=1e-14)


def test_inverse_is_accurate_next_to_integers(run):
    """Where tanh(alpha / 2) is 1 to rounding; the logarithm of the distance, which float32 holds well at 0."""
    y = np.float32([1e-30, 1e-20, 1e-10, 1e-5, 0.1])
    actual = run(inverse(40), y)
    near = np.exp(-40) + y.astype("float64")
    np.testing.assert_allclose(actual.value, 0.5 + np.log(near / (1 - y)) / 80, atol=1e-7)
    np.testing.assert_allclose(actual.gradient, 1 / (80 * near * (1 - y)), rtol=1e-5)


@BOTH_WAYS_BACK
@DTYPES
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_way_back_is_finite_everywhere(tf, run, way_back, dtype, mode):
    largest = np.finfo(dtype).max
    points = awkward(dtype)
    y = np.tile(points, 4)
    dy = np.repeat(np.array([1, 0, largest, -largest], dtype), len(points))
    f = way_back(3).func
    f = tf.function(f, jit_compile=True) if mode == "xla" else f
    for alpha in (*HYPERPARAMETERS["alpha"].extreme, 3, 50, 88, 95, 110, 800):
        actual = run(functools.partial(f, alpha=tf.constant(alpha, tf.float64)), y, dy)
        assert np.all(np.isfinite(actual.value)), alpha
        assert np.all(np.isfinite(actual.gradient)), alpha
        assert np.all(np.abs(actual.value - y) <= 0.5), alpha


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_of_the_way_back(run, dtype):
    y = nowhere_near(sample(dtype), 0)
    np.testing.assert_array_equal(run(inverse(1e30), y).value, np.floor(y) + 0.5)
    np.testing.assert_array_equal(run(inverse(1e30), np.rint(y)).value, np.rint(y))
    np.testing.assert_array_equal(run(inverse(1e30), np.rint(y)).gradient, np.finfo(dtype).max)
    y = nowhere_near(sample(dtype), 0.5)
    np.testing.assert_allclose(run(conditional_mean(1e30), y).value, np.rint(y), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_way_back_in_half_precision_is_rounded_once(tf, run, dtype):
    y = tf.cast(sample("float32"), dtype)
    for way_back in (inverse, conditional_mean):
        half, single = run(way_back(5.0), y), run(way_back(5.0), tf.cast(y, tf.float32))
        np.testing.assert_array_equal(half.value, tf.cast(single.value, dtype))
        np.testing.assert_array_equal(half.gradient, tf.cast(single.gradient, dtype))


@BOTH_WAYS_BACK
def test_way_back_refuses_alpha_out_of_range(tf, way_back):
    for value in HYPERPARAMETERS["alpha"].refused:
        with pytest.raises(ValueError, match=r"^alpha must be a finite number >= 0, got "):
            way_back(value)(tf.constant([0.3]))


@pytest.mark.parametrize("alpha", [0, 1, 3, 8])
def test_conditional_mean_is_one(run, alpha):
    """The mean of the `u` on a fine grid from which soft_round(u) + noise can reach y."""
    u = np.linspace(-3, 3, 600_001)
    reached, _ = soft_round(u, alpha)
    for y in (-1.3, -0.5, 0.0, 0.2, 0.5, 0.9, 1.0):
        mean = u[np.abs(y - reached) < 0.5].mean()
        np.testing.assert_allclose(run(conditional_mean(alpha), np.array([y])).value, mean, atol=2e-5)


# What single random strategies claim


def assert_mean_is(drawn, mean):
    """Over the last axis, within sigmas of the mean's error."""
    error = np.abs(drawn.mean(-1) - mean)
    assert np.all(error <= SIGMAS * drawn.std(-1) / DRAWS**0.5 + 1e-12), error


@pytest.mark.parametrize("name", ["uniform_noise", "dithered", "stochastic", "reinmax"])
def test_code_is_unbiased(run, name):
    assert_mean_is(draws(run, BY_NAME[name], PLACES).value, PLACES)


@pytest.mark.parametrize(("name", "values"), [("stochastic", {}), ("reinmax", {}), ("gumbel_sigmoid", {"hard": True})])
@DTYPES
def test_samples_are_exactly_the_integers_around(run, name, values, dtype):
    u = np.concatenate([awkward(dtype), sample(dtype)])
    for mode in ("eager", "xla"):
        value = run(BY_NAME[name].build(**values), u, mode=mode).value
        np.testing.assert_array_equal(value, np.rint(value))
        assert np.all((value == np.floor(u)) | (value == np.ceil(u)))


@pytest.mark.parametrize("name", ["uniform_noise", "dithered"])
@pytest.mark.parametrize("u", [-2.7, 0.0, 0.25, 0.5, 100.1])
def test_error_is_uniform_wherever_u_is(run, name, u):
    from scipy import stats

    error = draws(run, BY_NAME[name], [u]).value[0] - u
    assert stats.kstest(error, stats.uniform(-0.5, 1).cdf).pvalue > 1e-6


def test_dither_can_be_taken_off(run):
    """The code plus the dither, which both sides know, is an integer."""
    from rounding._noise import uniform

    u = sample("float64")
    code = run(BY_NAME["dithered"].build(seed=[1, 2]), u).value + uniform(u, [1, 2]).numpy()
    np.testing.assert_allclose(code, np.rint(code), atol=1e-14)


def test_reinmax_is_the_form_in_logits(run):
    """Liu et al.'s: 2 d softmax at (p + sample) / 2 less half of it at p, for the two classes' logits."""
    u = np.linspace(-1.99, 1.99, 400)
    actual, t = run(BY_NAME["reinmax"].build(), u), u - np.floor(u)

    def jacobian(p):  # [places, classes, classes]
        return p[:, :, None] * np.eye(2) - p[:, :, None] * p[:, None, :]

    p = np.stack([1 - t, t], -1)
    b = actual.value - np.floor(u)
    sample = np.stack([1 - b, b], -1)
    by_logits = (2 * jacobian((p + sample) / 2) - jacobian(p) / 2) @ [0, 1]  # the code's gradient: 1 on the upper
    logits_by_u = np.stack([-1 / (1 - t), 1 / t], -1)  # the logits as log p
    np.testing.assert_allclose(actual.gradient, np.sum(by_logits * logits_by_u, -1), rtol=1e-10)


def test_reinmax_gradient_is_right_for_quadratic_losses(run):
    """Its mean is the slope of the mean loss; the straight-through one's is so for linear losses only."""
    places = np.array([-0.9, 0.1, 0.5, 1.7])
    actual = draws(run, BY_NAME["reinmax"], places)
    gradient = (6 * actual.value - 1) * actual.gradient  # of 3 code^2 - code
    assert_mean_is(gradient, 3 * (2 * np.floor(places) + 1) - 1)


@DTYPES
def test_soft_gradient_is_made_of_two(run, dtype):
    u = np.concatenate([awkward(dtype), sample(dtype)])
    actual = run(BY_NAME["soft_gradient"].build(alpha=5), u)
    np.testing.assert_array_equal(actual.value, run(BY_NAME["straight_through"].build(), u).value)
    slope = run(BY_NAME["soft_round"].build(alpha=5), u).gradient
    np.testing.assert_allclose(actual.gradient, slope, rtol=1e-5 if dtype == "float32" else 1e-3, atol=1e-6)


def test_noisy_soft_round_becomes_noise_or_rounding(run):
    for alpha in (0, 1e-30, 1e-6):
        for dtype, tolerance in [("float32", 1e-6), ("float64", 1e-13)]:
            u = sample(dtype)
            actual = run(BY_NAME["noisy_soft_round"].build(alpha=alpha), u)
            noisy = run(BY_NAME["uniform_noise"].build(), u)
            np.testing.assert_allclose(actual.value, noisy.value, atol=tolerance)
            np.testing.assert_allclose(actual.gradient, 1, atol=tolerance)
    u = nowhere_near(sample("float64"), 0.5)
    actual = run(BY_NAME["noisy_soft_round"].build(alpha=1e30), u)
    np.testing.assert_allclose(actual.value, np.rint(u), atol=1e-13)
    np.testing.assert_array_equal(actual.gradient, 0)


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_noisy_soft_round_has_the_gradient_of_soft_round_on_average(run, alpha):
    actual = draws(run, BY_NAME["noisy_soft_round"], PLACES, alpha=alpha)
    assert_mean_is(actual.gradient, soft_round(np.array(PLACES), alpha)[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cold_or_hard_gumbel_is_stochastic(run, dtype):
    """The very samples, seed by seed."""
    u = nowhere_near(sample(dtype), 0, 1e-4)
    samples = run(BY_NAME["stochastic"].build(), u).value
    np.testing.assert_allclose(run(BY_NAME["gumbel_sigmoid"].build(temperature=1e-30), u).value, samples, atol=1e-6)
    for temperature in (1e-30, 0.5, 100):
        f = BY_NAME["gumbel_sigmoid"].build(temperature=temperature, hard=True)
        np.testing.assert_array_equal(run(f, u).value, samples)


def test_hard_gumbel_has_the_gradient_of_the_soft_one(run):
    u = sample("float64")
    hard, soft = (run(BY_NAME["gumbel_sigmoid"].build(hard=hard), u).gradient for hard in (True, False))
    np.testing.assert_array_equal(hard, soft)


def test_cold_sga_rounds(run):
    u = nowhere_near(sample("float64"), 0.5)
    actual = run(BY_NAME["sga"].build(temperature=1e-4), u)
    np.testing.assert_allclose(actual.value, np.rint(u), atol=1e-12)
    np.testing.assert_array_equal(actual.gradient, 0)


@pytest.mark.parametrize("name", ["gumbel_sigmoid", "sga"])
def test_hot_coins_stand_on_their_edge(run, name):
    u = sample("float64")
    actual = run(BY_NAME[name].build(temperature=1e30), u)
    np.testing.assert_allclose(actual.value, np.floor(u) + 0.5, atol=1e-12)
    np.testing.assert_allclose(actual.gradient, 0, atol=1e-12)


@pytest.mark.parametrize("name", ["gumbel_sigmoid", "sga"])
@DTYPES
def test_clipped_places_get_no_gradient(run, name, dtype):
    integers = np.arange(-3, 4).astype(dtype)
    actual = run(BY_NAME[name].build(), integers)
    np.testing.assert_array_equal(actual.gradient, 0)
    np.testing.assert_allclose(actual.value, integers, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logistic_noise_is_finite_for_every_draw(tf, monkeypatch, dtype):
    from scipy import stats

    from rounding import _noise

    assert stats.kstest(_noise.logistic(tf.zeros(DRAWS, dtype), [1, 2]), "logistic").pvalue > 1e-6
    end = 0.5 - 2.0 ** (-25 if dtype == "float32" else -54)
    monkeypatch.setattr(_noise, "uniform", lambda u, seed: tf.constant([-end, end], dtype))
    lowest, highest = _noise.logistic(tf.zeros(2, dtype), [1, 2]).numpy()
    assert -lowest == highest
    np.testing.assert_allclose(highest, np.log((0.5 + end) / (0.5 - end)), rtol=1e-6)


def test_ewgs_scales_by_the_distance_still_to_go(run):
    """Descent takes u against dy, to where the code changes: 0.9 away or 0.1."""
    u = np.array([0.4, 0.4, -0.4, -0.4, 2.0])
    dy = np.array([1, -1, 1, -1, 1.0])
    distance = np.array([0.9, 0.1, 0.1, 0.9, 0.5])
    for delta in (0, 0.5, 1, 4):
        actual = run(BY_NAME["ewgs"].build(delta=delta), u, dy)
        np.testing.assert_allclose(actual.gradient, dy * (1 + delta * (distance - 0.5)), rtol=1e-12)

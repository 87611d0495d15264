"""gallery.py: what the pictures show, against the strategies' closed forms, and how it is called."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, members
from omegaconf import OmegaConf
from strategies import BY_NAME, ORACLES, OUTCOMES, expected

import gallery
from conf.checks import ConfigError

NAMES = members("rounding")
VARIATIONS = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "gallery.yaml").variations)
DRAWS = 100


@functools.cache
def configs(name):
    return gallery.composed(name, VARIATIONS.get(name, [{}]))


def variants(name):
    return {label: gallery.variant(**config) for label, config in configs(name).items()}


def with_closed_form(table):
    """Strategies that a table of closed forms has, but for those that change as training goes on."""
    names = [name for name in NAMES if BY_NAME[name].function in table]
    return [name for name in names if not any(isinstance(value, dict) for value in BY_NAME[name].config.values())]


def lines(axis, label):
    """`u` and height of what is drawn under a label, without the gaps at jumps."""
    (line,) = [line for line in axis.lines if line.get_label() == label]
    u, height = line.get_data()
    return u[~np.isnan(u)], height[~np.isnan(height)]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def command(folder, *words, **environment):
    line = [sys.executable, str(ROOT / "gallery.py"), *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def curves():
    from telemetry import curves

    return curves


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_has_a_picture(curves, name):
    from telemetry.rendering import pixels

    figure = curves.draw(variants(name), name, DRAWS)
    picture = pixels(figure)
    assert picture.dtype == np.uint8
    assert picture.shape == (*np.round(figure.get_size_inches()[::-1] * 100), 3)
    for half in np.split(picture, [picture.shape[1] // 2], axis=1):
        assert (half == 255).all(-1).mean() > 0.5
        assert len(np.unique(half.reshape(-1, 3), axis=0)) > 20
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(shown) - {curves.BAND_LABEL} == set(configs(name))
    assert (curves.BAND_LABEL in shown) == any(axis.collections for axis in figure.axes)


@pytest.mark.parametrize("name", with_closed_form(ORACLES))
def test_lines_are_the_closed_forms(curves, name):
    function, gradient = curves.draw(variants(name), name).axes
    for label, config in configs(name).items():
        hyperparameters = {key: value for key, value in config.items() if not key.startswith("_")}
        for axis, which in ((function, 0), (gradient, 1)):
            u, height = lines(axis, label)
            assert set(curves.PLACES) <= set(u)
            desired = expected(BY_NAME[name], u, **hyperparameters)[which]
            close = np.isclose(height, desired, rtol=1e-3, atol=1e-3)  # where a steep ramp begins depends on the dtype
            assert close.mean() > (0.95 if name == "ramp" else 1 - 1e-9)
    assert not function.collections
    assert not gradient.collections


@pytest.mark.parametrize("name", with_closed_form(OUTCOMES))
def test_mean_and_band_are_those_of_the_distribution(curves, name):
    p = (np.arange(1000) + 0.5) / 1000
    for label, config in configs(name).items():
        hyperparameters = {key: value for key, value in config.items() if not key.startswith("_")}
        code, _ = curves.measure(variants(name)[label], DRAWS)
        drawn = OUTCOMES[BY_NAME[name].function].curve(code.u[:, None].astype(float), p[None], **hyperparameters)[0]
        assert code.random
        assert np.all(np.abs(code.mean - drawn.mean(1)) < 6 * drawn.std(1) / DRAWS**0.5 + 0.01)
        assert np.all((drawn.min(1) - 0.01 <= code.low) & (code.low <= code.high) & (code.high <= drawn.max(1) + 0.01))


def test_the_band_is_from_5_to_95_percent(curves):
    code, slope = curves.measure(variants("uniform_noise")["uniform_noise"], 4000)
    np.testing.assert_allclose(code.low, code.u - 0.45, atol=0.03)
    np.testing.assert_allclose(code.high, code.u + 0.45, atol=0.03)
    np.testing.assert_array_equal([slope.low, slope.mean, slope.high], 1)


def test_only_the_gradient_may_be_random(curves):
    import tensorflow as tf

    def noisy_gradient(u, seed):
        noise = tf.random.stateless_uniform(tf.shape(u), seed)
        return tf.stop_gradient(tf.round(u) - u * noise) + u * noise

    code, slope = curves.measure(noisy_gradient, 1000)
    np.testing.assert_allclose(code.high, np.rint(code.u), atol=1e-6)
    np.testing.assert_allclose(slope.mean, 0.5, atol=0.1)
    np.testing.assert_allclose(slope.high, 0.95, atol=0.05)


def test_a_gradient_beyond_the_panel_has_its_peak_written(curves):
    _, gradient = curves.draw(variants("ramp"), "ramp").axes
    assert texts(gradient) == ["▲ 10,000"]
    assert gradient.get_ylim()[1] < 10
    _, gradient = curves.draw({"alpha=3": gallery.variant(**configs("soft_round")["alpha=3"])}, "soft_round").axes
    assert texts(gradient) == []
    assert 1.65 < gradient.get_ylim()[1] < 2


def test_a_jump_is_a_gap_and_a_slope_is_not(curves):
    for name, gaps in (("straight_through", 2), ("soft_round", 0)):
        function, _ = curves.draw(variants(name), name).axes
        drawn = [line for line in function.lines if line.get_label() in configs(name)]
        assert {int(np.isnan(line.get_ydata()).sum()) for line in drawn} == {gaps}


def test_what_passes_no_gradient_is_drawn_at_zero(curves):
    import tensorflow as tf

    _, slope = curves.measure(lambda u, seed: tf.round(u), DRAWS)  # its gradient is None
    np.testing.assert_array_equal(slope.mean, 0)


def test_the_overview_has_a_pair_of_panels_for_each(curves):
    from telemetry.rendering import pixels

    names = ["cubic", "fourier", "hard", "sine", "uniform_noise"]
    figure = curves.overview({name: variants(name) for name in names}, DRAWS)
    visible = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in visible if axis.get_title()] == names
    assert len(visible) == 2 * len(names)
    assert pixels(figure).shape[1] == 900


@pytest.mark.parametrize("name", VARIATIONS)
def test_variations_are_of_hyperparameters_that_exist(name):
    assert name in NAMES
    assert len(configs(name)) == len(VARIATIONS[name])


def test_a_strategy_without_variations_is_drawn_as_its_yaml_has_it():
    assert list(gallery.composed("ramp", [{}])) == ["threshold=0.499, slope=10000.0"]
    assert list(gallery.composed("hard", [{}])) == ["hard"]


@pytest.mark.parametrize("variations", [3, [], "power=3", ["power=3"], {"power": 3}])
def test_variations_of_another_shape_are_refused(variations):
    with pytest.raises(ConfigError, match=r"variations\.cubic must be a list such as"):
        gallery.composed("cubic", variations)


def test_one_strategy_from_the_command_line(tmp_path):
    result = command(tmp_path, "rounding=cubic", "rounding.power=21", "output=pictures")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "pictures/cubic.png\n"
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["cubic.png"]
    assert (tmp_path / "pictures" / "cubic.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rounding=sin"], "error: rounding=sin does not exist: did you mean sine? choose from cosine, cubic, "),
        (["rounding=[sine,cubic]"], "error: rounding takes one name; to draw some, add -m"),
        (["rounding=cubic", "rounding.pwer=5"], "error: there is no key rounding.pwer: did you mean power?"),
        (
            ["outptu=x"],
            "error: there is no key outptu: did you mean output? choose from total_steps, output, variations",
        ),
        (["output=null"], "error: output must be a text"),
        (["output=tensorflow.py/x"], "error: output=tensorflow.py/x cannot be written"),
        (["variations=null"], "error: variations must be a section of keys, got null"),
        (["variations.cubic=[{pwer: 5}]"], "error: variations.cubic: there is no pwer, choose from power"),
    ],
)
def test_mistakes_are_one_sentence_and_need_no_tensorflow(tmp_path, words, message):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    result = command(tmp_path, *words, PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "docs").exists()


def test_help_needs_no_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    result = command(tmp_path, "--help", PYTHONPATH=str(tmp_path))
    assert result.returncode == 0
    assert "output: docs/gallery" in result.stdout

"""Whole runs on the embedded digits: what they write, that they repeat, go on, and leave others' runs alone."""

import csv
import json
import logging
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from conftest import members, shared, small
from omegaconf import OmegaConf
from processes import command, forked

from conf import compose
from conf.checks import ConfigError, check
from telemetry.records import MetricsFile, read_metrics
from telemetry.run import NEEDED, RunDirectory, default_path

FILES = {
    "config.yaml",
    "train.log",
    "metrics.csv",
    "result.json",
    "best.weights.h5",
    "code_statistics.npz",
    "last.weights.h5",
    "reconstructions.npz",
    "reconstructions.png",
    "train",
    "validation",
    "checkpoint.npz",
}


QUALITIES = ("cosine", "cosine_error", "bias", "variance", "relaxation_gap")


def columns(path):
    with (path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key] or "nan") for row in rows] for key in rows[0]}


def weights(path):
    import h5py

    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


@contextmanager
def interrupted(epochs):
    """Ends a run as a kill would, after so many epochs, and keeps the checkpoint of each beside the run's folder."""
    from telemetry.checkpoint import Checkpoint

    end, save = Checkpoint.end_epoch, Checkpoint.save

    def end_epoch(self, val_loss):
        end(self, val_loss)
        if self.epoch == epochs:
            raise KeyboardInterrupt

    def save_and_keep(self):
        save(self)
        self.written.result()
        shutil.copy(self.path, self.path.parent.with_name(f"checkpoint{self.epoch}.npz"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("telemetry.checkpoint.SECONDS_BETWEEN_SAVES", 0.0)
        patch.setattr(Checkpoint, "save", save_and_keep)
        patch.setattr(Checkpoint, "end_epoch", end_epoch)
        with pytest.raises(KeyboardInterrupt):
            yield


# All that moves in training: a schedule of the step, the share of training done, noise anew each step.
MOVING = [
    "rounding=switch",
    "rounding@rounding.before=soft_round_annealed",
    "rounding@rounding.after=uniform_noise",
    "rounding.at=0.4",
]


@contextmanager
def early_best():
    """Makes the second epoch of four the best one, by a learning rate that then grows a thousandfold."""
    import keras

    def schedule(rate, steps):
        return keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps // 4], [rate, 1000 * rate])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.optimizers.schedules, "CosineDecay", schedule)
        yield [*MOVING, "epochs=4", "batch_size=200"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir):
    """A run whose second epoch of four is the best one: its folder and its result."""
    from train import train

    with shared(tmp_path_factory, "undisturbed") as folder, early_best() as settings:
        return folder / "run", train(small(data_dir, folder / "run", *settings))


@pytest.fixture(scope="module")
def killed(tmp_path_factory, data_dir):
    """The folder of the same run, which ended after its third epoch."""
    from train import train

    with shared(tmp_path_factory, "killed") as folder, early_best() as settings:
        if not (folder / "run").exists():
            with interrupted(3):
                train(small(data_dir, folder / "run", *settings))
    return folder / "run"


@pytest.fixture
def copied(small_run, tmp_path):
    """The folder and the result of `train_small()`, as if it had just run."""
    path, result = small_run
    shutil.copytree(path, tmp_path / "run")
    return tmp_path / "run", result


def stamps(path):
    """When everything in a folder was last written."""
    return {item: item.stat().st_mtime_ns for item in path.rglob("*")}


def steps_on_the_board(path, tag="epoch_loss"):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [event.step for event in EventAccumulator(str(path), {"tensors": 0}).Reload().Tensors(tag)]


# What a run writes


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    """A finished run whose strategy has a gap and anneals: its folder and the result that `train` returned."""
    from train import train

    overrides = ["rounding=soft_round_annealed", "epochs=3", "batch_size=300", "model.widths=[64]"]
    overrides.append(f"data.data_dir={data_dir}")
    with shared(tmp_path_factory, "finished") as folder:
        return folder / "run", train(compose([*overrides, f"output_dir={folder}/run"]))


def test_run_directory_is_complete(finished):
    path, result = finished
    assert {item.name for item in path.iterdir()} - {".lock"} == FILES
    assert json.loads((path / "result.json").read_text()) == json.loads(json.dumps(result))
    assert yaml.safe_load((path / "config.yaml").read_text())["choices"]["rounding"] == "soft_round_annealed"
    assert "epoch 3/3" in (path / "train.log").read_text()


def test_result_says_what_the_contract_names(finished):
    _, result = finished
    assert result["status"] == "finished"
    assert result["epochs"] == 3
    assert result["config"]["rounding"]["alpha"]["decay_steps"] is None, "all of them"
    assert result["parameters"] > 0
    assert set(result["versions"]) >= {"python", "tensorflow", "keras", "numpy"}
    for key in ("val_loss", "val_soft_loss", "test_loss", "bits_per_example", "seconds", "examples_per_second"):
        assert result[key] > 0


def test_result_has_means_of_the_gradient_flow(finished):
    path, result = finished
    table = columns(path)
    for name, column in {
        "transmission": "gradient_flow/transmission",
        "zero_fraction": "gradient_flow/zero_fraction",
        "gradient_cosine": "gradient_quality/cosine",
        "gradient_bias": "gradient_quality/bias",
        "gradient_variance": "gradient_quality/variance",
    }.items():
        np.testing.assert_allclose(result[name], np.mean(table[column]), rtol=1e-6)
    assert 0 < result["gradient_cosine"] <= 1.1


@pytest.mark.parametrize(
    ("epochs", "times", "expected"),
    [
        (1, 4, [1]),
        (3, 4, [1, 2, 3]),
        (60, 4, [1, 15, 30, 45, 60]),
        (60, 2, [1, 30, 60]),
        (7, 2, [1, 4, 7]),
        (9, 4, [1, 3, 6, 9]),
    ],
)
def test_what_is_due_now_and_then(epochs, times, expected):
    from telemetry.tensorboard import due

    assert [epoch for epoch in range(1, epochs + 1) if due(epoch, epochs, times)] == expected


def test_columns_that_only_some_epochs_have(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv", 0)
    for epoch, row in enumerate(
        [{"a": 1.0, "b": 2.0}, {"a": 3.0}, {"a": 5.0, "b": float("nan")}, {"a": 7.0, "b": 4.0}]
    ):
        file.append({"epoch": epoch + 1, **row})
    assert file.means({"x": "a", "y": "b"}) == {"x": 4, "y": 3}
    assert columns(tmp_path)["b"][3] == 4
    assert MetricsFile(tmp_path / "metrics.csv", 2).means({"y": "b"}) == {"y": 2}


def test_columns_that_a_later_epoch_has_first(tmp_path):
    """A run that goes on without its rows, as a second worker does, seldom begins with an epoch that has all."""
    file = MetricsFile(tmp_path / "metrics.csv", 2)
    for row in ({"epoch": 3, "loss": 0.5, "z": 1.0}, {"epoch": 4, "loss": 0.25, "b": 2.0, "z": 2.0}, {"epoch": 5}):
        file.append(row)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,b,z\n3,0.5,,1.0\n4,0.25,2.0,2.0\n5,,,\n"


def test_custom_scalars_show_charts_of_tags_that_there_are(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    path, _ = finished
    board = [EventAccumulator(str(path / name), {"tensors": 0}).Reload() for name in ("train", "validation")]
    tags = {tag for events in board for tag in events.Tags()["tensors"]}
    layout = Layout.FromString(board[0].Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    shown = {title: {t for t in tags for wanted in regexes if re.match(wanted, t)} for title, regexes in charts.items()}
    assert all(shown.values()), "no chart is empty"
    assert {"epoch_loss", "epoch_soft_loss", "epoch_gap"} in shown.values()
    assert {f"gradient_norm/{part}" for part in ("code", "u", "encoder", "decoder")} in shown.values()


def test_metrics_have_the_contracts_columns_and_a_row_an_epoch(finished):
    path, _ = finished
    table = columns(path)
    assert table["epoch"] == [1, 2, 3]
    expected = ["epoch", "loss", "val_loss", "val_soft_loss", "val_gap", "val_psnr", "val_bits", "val_code_usage"]
    expected += [f"gradient_norm/{part}" for part in ("encoder", "decoder", "code", "u")]
    expected += ["gradient_flow/transmission", "gradient_flow/zero_fraction"]
    expected += [f"gradient_quality/{part}" for part in QUALITIES]
    expected += ["rounding/alpha", "val_saturation/stuck_units", "val_saturation/near_integer"]
    assert set(expected) <= set(table)
    np.testing.assert_allclose(table["rounding/alpha"], [6, 11, 16], rtol=1e-6)  # in a straight line from 1
    by_layer = sorted(name for name in table if name not in expected)
    layers = [name.removeprefix("gradient_norm/layer/") for name in by_layer[:5]]
    assert by_layer[5:] == [f"update_to_weight/{layer}" for layer in layers]
    assert layers == ["decoder_0_dense", "decoder_1_dense", "encoder_1_dense", "encoder_2_dense", "latent"]
    assert np.isfinite([*table.values()]).all()
    np.testing.assert_allclose(np.subtract(table["val_loss"], table["val_soft_loss"]), table["val_gap"], atol=1e-7)


def test_test_loss_is_that_of_integer_codes(finished):
    import keras

    from train import build

    path, result = finished
    splits, trainer = build(OmegaConf.load(path / "config.yaml"))
    autoencoder = trainer.autoencoder
    autoencoder.load_weights(path / "best.weights.h5")
    x = splits.test.numpy()
    code = np.round(np.asarray(autoencoder.encode(x)))
    assert set(np.unique(code)) == {0, 1}
    x_hat = np.asarray(autoencoder.decoder(2 * code - 1), "float64")
    np.testing.assert_allclose(result["test_loss"], np.mean((x - x_hat) ** 2), rtol=1e-5)
    probabilities = code.mean(axis=0).clip(1e-12, 1 - 1e-12)
    entropies = -probabilities * np.log2(probabilities) - (1 - probabilities) * np.log2(1 - probabilities)
    np.testing.assert_allclose(result["bits_per_example"], entropies.sum(), rtol=1e-4)
    stored = np.load(path / "reconstructions.npz")
    np.testing.assert_array_equal(stored["x"], x[: len(stored["x"])])
    np.testing.assert_array_equal(stored["code"], code[: len(stored["x"])])
    np.testing.assert_allclose(stored["x_hat"], x_hat[: len(stored["x"])], atol=1e-6)
    picture = np.asarray(keras.utils.load_img(path / "reconstructions.png", color_mode="grayscale"))
    assert picture.std() > 30


def test_tensorboard_shows_the_same_numbers_pictures_histograms_and_settings(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util import tensor_util

    from telemetry.tensorboard import SHOWN_AT_FIRST

    path, _ = finished
    table = columns(path)
    board = {name: EventAccumulator(str(path / name), {"tensors": 0}).Reload() for name in ("train", "validation")}
    for column in table.keys() - {"epoch"}:
        run = board["validation" if column.startswith("val_") else "train"]
        tag = column.removeprefix("val_")
        events = run.Tensors(tag if "/" in tag else f"epoch_{tag}")
        assert [event.step for event in events] == [1, 2, 3]
        values = [tensor_util.make_ndarray(event.tensor_proto) for event in events]
        np.testing.assert_allclose(values, table[column], rtol=1e-6)
    train, validation = (set(board[name].Tags()["tensors"]) for name in ("train", "validation"))
    assert "epoch_loss" in train & validation
    assert {f"histogram/{name}" for name in ("z", "u", "dL_dcode", "dL_du")} | {"config"} <= train
    assert {tag for tag in train if tag.startswith("close_up/")} == {
        f"close_up/{name}" for name in ("strategy", "where_gradient_gets_through", "histograms_by_unit")
    }
    pictures = [event.step for event in board["validation"].Tensors("original_above_reconstruction")]
    assert (pictures[0], pictures[-1]) == (1, 3)
    text = board["train"].Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert "end_learning_rate: 16.0" in text
    metadata = board["validation"].summary_metadata
    assert "_hparams_/experiment" in metadata
    session = HParamsPluginData.FromString(metadata["_hparams_/session_start_info"].plugin_data.content)
    assert session.session_start_info.group_name == f"soft_round_annealed binary {path}", (
        "or runs of equal values share a row"
    )
    assert session.session_start_info.hparams["rounding"].string_value == "soft_round_annealed"
    experiment = HParamsPluginData.FromString(metadata["_hparams_/experiment"].plugin_data.content).experiment
    assert {info.name for info in experiment.hparam_infos if info.differs} == SHOWN_AT_FIRST
    measured = [info.name.tag for info in experiment.metric_infos]
    assert set(measured[:5]) <= validation - {"epoch_psnr"}, "what only some runs have makes views empty"


@pytest.mark.parametrize("latent", members("latent"))
def test_hparams_are_a_fixed_set_of_fixed_types(latent):
    from telemetry.tensorboard import HPARAMS, hparams

    kinds = {"data": str, "model": str, "latent": str, "rounding": str, "loss": str, "units": int, "levels": int}
    kinds |= {"normalize": bool, "learning_rate": float, "batch_size": int, "epochs": int, "seed": int, "settings": str}
    for overrides in ([], ["optimizer.learning_rate=1"], ["latent.levels=null"] if latent == "integer" else []):
        values = hparams(compose([f"latent={latent}", *overrides]))
        assert {key: type(value) for key, value in values.items()} == kinds
    assert [h.name for h in HPARAMS] == list(kinds)


# Audio


@pytest.fixture(scope="module")
def finished_audio(tmp_path_factory, data_dir):
    """A finished run on spoken digits: its folder, its result, and what it said at the end."""
    from train import train

    overrides = ["data=espeak_digits", "rounding=soft_round", "epochs=2", "batch_size=200", f"data.data_dir={data_dir}"]
    overrides += [
        "model.strides=[8,8]",
        "model.channels=[8,16]",
        "model.dilations=[1]",
        "data.clip_seconds=0.5",
    ]
    with shared(tmp_path_factory, "finished_audio") as folder:
        path = folder / "run"
        return path, train(compose([*overrides, f"output_dir={path}"])), (path / "train.log").read_text()


def test_audio_run_directory_is_complete(finished_audio):
    path, result, log = finished_audio
    assert {item.name for item in path.iterdir()} - {".lock"} == FILES | {"clips"}
    assert json.loads((path / "result.json").read_text()) == json.loads(json.dumps(result))
    assert f"SI-SDR {result['test_si_sdr']:.2f} dB" in log
    assert f"{result['bits_per_second']:,.0f} a second" in log
    table = columns(path)
    assert {"val_si_sdr", "val_log_spectral_distance", "val_bits", "val_bits_per_second"} <= set(table)
    assert "val_psnr" not in table
    assert table["val_si_sdr"][1] > table["val_si_sdr"][0]


def test_audio_results_are_those_of_integer_codes(finished_audio):
    from train import build

    path, result, _ = finished_audio
    splits, trainer = build(OmegaConf.load(path / "config.yaml"))
    trainer.autoencoder.load_weights(path / "best.weights.h5")
    x = splits.test.numpy()
    code = np.round(np.asarray(trainer.autoencoder.encode(x)))
    assert code.shape[1:] == (63, 11)
    x_hat = np.asarray(trainer.autoencoder.decoder(2 * code / 6 - 1), "float64")
    scale = (x * x_hat).sum(axis=(1, 2)) / (x.astype("float64") ** 2).sum(axis=(1, 2))
    target = scale[:, None, None] * x
    si_sdr = 10 * np.log10((target**2).sum(axis=(1, 2)) / ((x_hat - target) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(result["test_si_sdr"], si_sdr.mean(), rtol=1e-3)
    shares = np.stack([(code == level).mean(axis=(0, 1)) for level in range(7)])
    bits = -(shares * np.log2(np.maximum(shares, 1e-12))).sum() * 63
    np.testing.assert_allclose([result["bits_per_example"], result["bits_per_second"] / 2], bits, rtol=1e-3)


def test_clips_can_be_listened_to(finished_audio):
    from scipy.io import wavfile

    path, _, _ = finished_audio
    stored = np.load(path / "reconstructions.npz")
    assert stored["code"].dtype == np.int32
    names = sorted(file.name for file in (path / "clips").iterdir())
    assert names == sorted(f"{n}_{name}.wav" for n in range(1, 6) for name in ("original", "reconstruction"))
    for n in range(5):
        for name, key in (("original", "x"), ("reconstruction", "x_hat")):
            rate, samples = wavfile.read(path / "clips" / f"{n + 1}_{name}.wav")
            assert (rate, samples.dtype, samples.shape) == (8000, np.int16, (4000,))
            np.testing.assert_allclose(samples / 32768, np.clip(stored[key][n, :, 0], -1, 1), atol=1e-4)


def test_tensorboard_plays_each_original_beside_its_reconstruction(finished_audio):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path, _, _ = finished_audio
    board = EventAccumulator(str(path / "validation"), {"tensors": 0}).Reload()
    for n in range(1, 6):
        original, reconstruction = (board.Tensors(f"clip_{n}/{name}") for name in ("original", "reconstruction"))
        assert [event.step for event in original] == [event.step for event in reconstruction] == [1, 2]
        assert len({event.tensor_proto.string_val[0] for event in original}) == 1, "the same clip in every epoch"
        assert all(event.tensor_proto.string_val[0].startswith(b"RIFF") for event in (*original, *reconstruction))
        assert board.summary_metadata[f"clip_{n}/original"].plugin_data.plugin_name == "audio"
    assert [event.step for event in board.Tensors("original_above_reconstruction")] == [1, 2]
    assert {"epoch_si_sdr", "epoch_bits_per_second"} <= set(board.Tags()["tensors"])


def test_a_home_folder_is_meant_by_its_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for words in (["output_dir='~/a/b'"], ["runs='~/a'", "output_dir=null"]):
        assert RunDirectory(check(compose(words))).path.is_relative_to("/home/me/a")


def test_loss_is_in_the_path_only_where_it_is_not_the_datas_own():
    def path(*words):
        return str(default_path(check(compose(words))))

    audio = "runs/espeak_digits/audio_conv/integer/straight_through"
    assert path("data=espeak_digits") == f"{audio}/seed=0"
    assert path("data=espeak_digits", "loss=squared_error") == f"{audio}/loss=squared_error/seed=0"
    assert path("data=espeak_digits", "loss=spectral", "loss.weight=0") == f"{audio}/loss.weight=0/seed=0"
    assert path("data=espeak_digits", "latent=binary") == f"{audio.replace('integer', 'binary')}/seed=0"
    assert "/loss=spectral/" in path("loss=spectral")


def test_members_and_schedules_are_in_the_path_by_their_names():
    def settings_of(*words):
        return default_path(check(compose(words))).parent.name

    assert settings_of("rounding=switch") == "switch", "no other settings"
    assert (
        settings_of("rounding=switch", "rounding@rounding.before=cubic")
        == "rounding.before=cubic,rounding.before.power=3"
    )
    line = "{_target_: keras.optimizers.schedules.PolynomialDecay, initial_learning_rate: 9, decay_steps: null}"
    schedule = "rounding.alpha=PolynomialDecay,rounding.alpha.initial_learning_rate=9"
    assert settings_of("rounding=soft_round", f"rounding.alpha={line}") == schedule


# The same command again


def test_same_seed_same_numbers_even_when_the_data_is_prepared_first(train_small, small_run, tmp_path):
    (tmp_path / "fresh").mkdir()
    train_small(f"data.data_dir={tmp_path / 'fresh'}")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (small_run[0] / "metrics.csv").read_bytes()


def test_seed_decides_the_weights(data_dir):
    from train import build

    def kernel(seed):
        words = [f"seed={seed}", f"data.data_dir={data_dir}", "model.widths=[8]"]
        return build(compose(words))[1].autoencoder.encoder.weights[0].numpy()

    first = kernel(0)
    np.testing.assert_array_equal(first, kernel(0))
    assert np.all(first != kernel(1))


def test_weight_decay_is_of_kernels_only(data_dir):
    from train import build

    _, trainer = build(compose([f"data.data_dir={data_dir}", "optimizer.weight_decay=0.5", "model.widths=[8]"]))
    variables = trainer.autoencoder.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    trainer.optimizer.apply([np.zeros(variable.shape, "float32") for variable in variables], variables)
    for variable in variables:
        decayed = 1 - 0.5 * 0.002 if variable.name == "kernel" else 1
        np.testing.assert_allclose(variable, np.full(variable.shape, decayed), rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("saved", [1, 3])
def test_interrupted_run_goes_on_to_the_same_end(train_small, tmp_path, killed, undisturbed, saved):
    a, expected = undisturbed
    b = tmp_path / "run"
    assert expected["best_epoch"] == 2
    shutil.copytree(killed, b)
    shutil.copy(killed.with_name(f"checkpoint{saved}.npz"), b / "checkpoint.npz")
    assert not (b / "result.json").exists()
    with early_best() as settings:
        result = train_small(*settings)
    assert (a / "metrics.csv").read_bytes() == (b / "metrics.csv").read_bytes()
    for name in ("best.weights.h5", "last.weights.h5"):
        ours, theirs = weights(a / name), weights(b / name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
    incidental = {"seconds", "examples_per_second", "config"}
    assert {k: v for k, v in result.items() if k not in incidental} == {
        k: v for k, v in expected.items() if k not in incidental
    }
    assert steps_on_the_board(b / "train") == steps_on_the_board(b / "validation") == [1, 2, 3, 4]
    assert steps_on_the_board(b / "validation", "original_above_reconstruction") == [1, 2, 3, 4]
    assert steps_on_the_board(b / "train", "config") == [0]
    assert f"going on after epoch {saved}" in (b / "train.log").read_text()


def test_the_tested_weights_are_the_best_ones(undisturbed):
    path, result = undisturbed
    losses = columns(path)["val_loss"]
    assert result["best_epoch"] == np.argmin(losses) + 1 == 2
    np.testing.assert_allclose(result["val_loss"], min(losses), rtol=1e-5)
    best, last = (weights(path / f"{name}.weights.h5") for name in ("best", "last"))
    assert any(np.any(best[key] != last[key]) for key in best)


def test_finished_run_is_not_trained_again(train_small, copied, caplog):
    path, first = copied
    before = stamps(path)
    with caplog.at_level(logging.INFO):
        assert train_small() == json.loads(json.dumps(first))
    assert "is finished" in caplog.text
    assert stamps(path) == before


def test_more_epochs_go_on_with_a_finished_run(train_small, copied):
    path, _ = copied
    first = columns(path)
    with interrupted(3):
        train_small("epochs=4")
    assert not (path / "result.json").exists(), "that of 2 epochs must not pass for the run's"
    assert json.loads((path / "result.2.json").read_text())["epochs"] == 2
    assert train_small("epochs=4")["epochs"] == 4
    table = columns(path)
    assert table["epoch"] == [1, 2, 3, 4]
    assert {key: values[:2] for key, values in table.items()} == first


def test_another_configuration_is_refused_with_the_keys_that_differ(train_small, copied):
    path, _ = copied
    before = stamps(path)
    with pytest.raises(ConfigError, match=r"differs in latent.units \(8 there, 9 here\), seed \(0 there, 1 here\)"):
        train_small("seed=1", "latent.units=9")
    with pytest.raises(ConfigError, match=r"differs in epochs \(2 there, 1 here\)"):
        train_small("epochs=1")
    assert stamps(path) == before


def test_a_folder_of_something_else_is_refused(train_small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    for resume in ("true", "false"):
        with pytest.raises(ConfigError, match="is not a run of ours"):
            train_small(f"resume={resume}")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("status", "told"), [("finished", True), ("diverged", False), ("failed", False)])
def test_only_more_epochs_after_a_finished_run_are_called_that(status, told, tmp_path, caplog):
    caplog.set_level("INFO")
    run = RunDirectory(check(compose(["epochs=9", f"output_dir={tmp_path}/run"])))
    run.path.mkdir()
    numbers = dict.fromkeys(NEEDED, 1.0)
    (run.path / "result.json").write_text(json.dumps({**numbers, "status": status, "epochs": 7}))
    with run.claim():
        pass
    assert ("9 epochs after a run of 7" in caplog.text) == told
    assert (run.path / "result.7.json").exists()


def test_starting_over_moves_the_old_run_aside(train_small, copied, tmp_path):
    path, _ = copied
    old = (path / "metrics.csv").read_text()
    train_small("resume=false", "seed=1")
    assert (tmp_path / "run~1" / "metrics.csv").read_text() == old
    assert np.all(np.not_equal(columns(path)["val_loss"], columns(tmp_path / "run~1")["val_loss"])), "another seed"


def test_a_run_that_another_process_writes_is_left_alone(train_small, tmp_path):
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        for resume in ("true", "false"):
            with pytest.raises(ConfigError, match="another process"):
                train_small(f"resume={resume}")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", ".lock"]


def test_a_run_that_appears_while_the_data_loads_is_left_alone(train_small, small_run, tmp_path, monkeypatch):
    import train

    def build_slowly(cfg, real=train.build):
        shutil.copytree(small_run[0], tmp_path / "run")
        return real(cfg)

    monkeypatch.setattr(train, "build", build_slowly)
    with pytest.raises(ConfigError, match=r"differs in seed \(0 there, 1 here\)"):
        train_small("seed=1")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed"] == 0


def test_evaluation_does_not_depend_on_the_epochs_that_one_says(finished):
    from train import train

    path, result = finished
    words = ["rounding=soft_round_annealed", "batch_size=300", "model.widths=[64]", "epochs=9", "evaluate=true"]
    data = result["config"]["data"]["data_dir"]
    measured = train(compose([*words, f"data.data_dir={data}", f"output_dir={path}"]))
    assert measured == {key: result[key] for key in measured}


def test_evaluation_measures_what_moved_in_training_as_it_was_at_the_best_epoch(undisturbed, data_dir):
    from train import train

    path, result = undisturbed
    measured = train(small(data_dir, path, *MOVING, "epochs=4", "batch_size=200", "evaluate=true"))
    assert measured == {key: result[key] for key in measured}
    best = columns(path)["val_soft_loss"][result["best_epoch"] - 1]
    np.testing.assert_allclose(result["val_soft_loss"], best, rtol=1e-6)


def test_evaluation_of_a_stored_run_repeats_its_numbers_and_writes_nothing(train_small, copied):
    path, result = copied
    before = stamps(path)
    measured = train_small("evaluate=true")
    assert measured == {key: result[key] for key in measured}
    assert stamps(path) == before


def test_evaluation_without_a_run_says_so(train_small):
    with pytest.raises(ConfigError, match="holds no trained weights"):
        train_small("evaluate=true")


@pytest.mark.parametrize("levels", [pytest.param("2", marks=pytest.mark.soak), "null"])
def test_xla_gives_the_same_losses_to_rounding(train_small, tmp_path, levels):
    words = ["latent=integer", f"latent.levels={levels}", "rounding=fourier", "epochs=1"]
    train_small(*words, "jit_compile=true", output="xla")  # first: the other one leaves determinism on, as it was
    train_small(*words, output="plain")
    plain, xla = columns(tmp_path / "plain"), columns(tmp_path / "xla")
    for key in ("loss", "val_loss", "val_bits", "gradient_norm/u"):
        np.testing.assert_allclose(plain[key], xla[key], rtol=1e-2)


# What goes wrong


def test_hard_warns_that_the_encoder_stays_as_it_is(train_small, caplog):
    train_small("rounding=hard", "epochs=1")
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        "rounding=hard lets (almost) no gradient through: only the decoder trains"
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rounding=soft_round", "rounding.alpha=steep"], "rounding=soft_round: alpha must be .* got 'steep'"),
        (["rounding=soft_round_annealed", "rounding.alpha.end_learning_rate=-2"], r"alpha must be .* got -2\.0"),
        (
            ["rounding=soft_round_annealed", "rounding.alpha.end_learning_rate=-2", "rounding.alpha.decay_steps=20"],
            r"got -1\.4",
        ),
        (
            ["rounding=soft_round_annealed", "rounding.alpha.decay_steps=abc"],
            "decay_steps of a schedule must be a number",
        ),
        (["rounding=switch", "rounding.before=sine"], "rounding.before must be a strategy, .* got 'sine'"),
        (["rounding=switch", "rounding.at=1"], r"rounding=switch: at must be .* got 1"),
        (["rounding=switch", "rounding@rounding.before=soft_round", "rounding.before.alpha=-1"], "alpha must be .* -1"),
        (["+rounding.typo=1"], "rounding=straight_through: .*unexpected keyword argument 'typo'"),
        (["+latent.typo=1"], "latent=binary: .*unexpected keyword argument 'typo'"),
        (["+optimizer.typo=1"], "optimizer: "),
        (["optimizer._target_=keras.optimizers.Nope"], "optimizer: "),
    ],
)
def test_what_strategy_data_or_model_refuses_names_the_choice(train_small, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train_small(*overrides)
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_says_so_and_fails(tmp_path, data_dir):
    result = forked(
        "optimizer.learning_rate=1e30", "latent=integer", "latent.levels=null", "latent.normalize=false", "epochs=2",
        "batch_size=500", "model.widths=[16]", f"data.data_dir={data_dir}", "output_dir=run", folder=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: the loss is no number any more in epoch 1")
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["status"] == "diverged"
    assert stored["val_loss"] is None


def test_a_crash_is_recorded_with_its_traceback(train_small, tmp_path, monkeypatch):
    from models.autoencoder import Trainer

    def broken(self, x):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Trainer, "test_step", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        train_small()
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (stored["status"], "out of luck" in stored["reason"]) == ("failed", True)
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()


# The command line


@pytest.fixture(scope="module")
def commanded(tmp_path_factory, data_dir):
    """A command that has trained: its words, the folder that it ran in, its outcome."""
    folder = tmp_path_factory.mktemp("commanded")
    words = ["epochs=1", "model.widths=[16]", "batch_size=500", f"data.data_dir={data_dir}", "threads=1"]
    return words, folder, command("rounding=cubic", *words, PWD=str(folder))


def test_command_trains_quietly_and_names_its_folder(commanded):
    _, folder, result = commanded
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (stored,) = folder.rglob("cubic/*/seed=0/result.json")
    relative = stored.parent.relative_to(folder)
    assert relative.parts[:5] == ("runs", "mnist_5k", "image_mlp", "binary", "cubic")
    assert relative.parts[-1] == "seed=0"
    assert "model.widths=16" in relative.parts[-2]
    assert f"tensorboard --logdir {relative.parts[0]}" in result.stdout
    assert "hard test loss" in result.stdout


def test_the_command_again_skips_what_is_finished_and_evaluates(commanded):
    words, folder, _ = commanded
    again = forked("rounding=cubic", *words, folder=folder)
    assert (again.returncode, again.stdout.count("is finished"), again.stdout.count("training runs/")) == (0, 1, 0)
    stored = json.loads(next(folder.rglob("cubic/*/seed=0/result.json")).read_text())
    measured = forked("rounding=cubic", "evaluate=true", *words, folder=folder)
    assert measured.returncode == 0, measured.stderr
    assert re.search(rf"^test_loss +{stored['test_loss']:.5f}$", measured.stdout, re.MULTILINE)


# The run directory's name and records, without TensorFlow


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "runs/mnist_5k/image_mlp/binary/straight_through/seed=0"),
        (
            ["seed=3", "epochs=9", "threads=2", "checkpoint_steps=5"],
            "runs/mnist_5k/image_mlp/binary/straight_through/seed=3",
        ),
        (
            ["rounding=soft_round", "batch_size=64", "rounding.alpha=7"],
            "runs/mnist_5k/image_mlp/binary/soft_round/rounding.alpha=7,batch_size=64/seed=0",
        ),
        (["rounding=soft_round", "rounding.alpha=3.0"], "runs/mnist_5k/image_mlp/binary/soft_round/seed=0"),
        (["latent.normalize=false"], "runs/mnist_5k/image_mlp/binary/straight_through/latent.normalize=false/seed=0"),
        (["batch_size=1"], "runs/mnist_5k/image_mlp/binary/straight_through/batch_size=1/seed=0"),
        (["data.data_dir=/tmp"], "runs/mnist_5k/image_mlp/binary/straight_through/seed=0"),
        (["model.widths=[64,32]"], "runs/mnist_5k/image_mlp/binary/straight_through/model.widths=64-32/seed=0"),
    ],
)
def test_default_path_names_what_differs(overrides, expected):
    assert str(default_path(compose(overrides))) == expected


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc", "a b;rm -rf *", "ü" * 300, "..", "$(id)"])
def test_default_path_stays_inside_runs_whatever_the_names(name):
    config = compose(["data=tfds_image"])
    config.data.name = name
    path = default_path(config)
    assert path.parts[0] == "runs"
    assert ".." not in path.parts
    assert len(path.parts) == 7
    assert all(len(part) <= 100 and part.isascii() for part in path.parts)
    config.data.name = name + "x"
    assert default_path(config) != path


def test_output_dir_may_interpolate():
    cfg = compose(["rounding=cubic", "output_dir=out/${hydra:runtime.choices.rounding}/${seed}"])
    assert str(RunDirectory(cfg).path) == "out/cubic/0"


def test_rows_of_lost_epochs_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, 0)
    for epoch in (1, 2, 3):
        file.append({"val_loss": epoch / 10, "epoch": epoch, "loss": epoch})
    MetricsFile(path, 2).append({"loss": 9, "epoch": 3, "val_loss": 0.9})
    assert path.read_text() == "epoch,loss,val_loss\n1,1,0.1\n2,2,0.2\n3,9,0.9\n"
    path.write_text(path.read_text() + "4,7")
    assert [row["loss"] for row in read_metrics(path)] == ["1", "2", "9"]


def test_a_run_that_reads_from_disk_is_the_same(train_small, small_run, tmp_path):
    folder, result = small_run
    ours = train_small("cache_gb=0")
    assert ours["test_loss"] == result["test_loss"]
    assert (tmp_path / "run" / "metrics.csv").read_text() == (folder / "metrics.csv").read_text()

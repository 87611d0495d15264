"""What trained codecs cost and give on their test sets, beside PNG, JPEG, PCM and others: bytes are counted, not told.

table = measure(folder)     # a row for each run and baseline
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from tqdm import tqdm

from coding import baselines, bitstream, container, stored
from coding.baselines import Coded
from coding.container import Header, Item
from coding.stored import Codec, Stored
from conf.checks import ConfigError
from conf.errors import explained
from conf.settings import INCIDENTAL, settings
from conf.targets import instantiate
from telemetry.comparison.runs import read_runs

log = logging.getLogger("codec")

HOW = [*(key for key in INCIDENTAL if key != "epochs"), "latent.units", "latent.levels"]
"""What does not make another family of runs of one."""

Quality = Callable[[np.ndarray], dict[str, float]]
"""Of `x_hat` of the test set: the hard loss, and what else is measured of such examples."""


def find(folder: Path) -> list[Stored]:
    """The finished runs below a folder; says which of them cannot code, and why.

    Raises:
        ConfigError: there is none.
    """
    runs = read_runs(folder, {})
    found = []
    for path in runs[runs["status"] == "finished"].get("path", []):
        try:
            found.append(stored.load(path))
        except ConfigError as error:
            log.warning("left out: %s", error)
    if not found:
        raise ConfigError(f"runs={folder} holds no finished run that can code: train some with python train.py")
    return found


def measure(folder: Path) -> pd.DataFrame:
    """Codes the test set of every run below a folder, and measures the baselines on it; imports TensorFlow.

    Columns: `field` (the data set and the loss: what may be compared), `family`, `setting`, `is_run`; of a run
    `units`, `levels`, `seed`, `path` in the folder; `examples` of the test set; `seconds` of one (NaN of images);

    bits          of an example: those of one file of the whole test set, header included, over the examples
    ideal_bits    of an example: the code length under the training set's statistics, which no coder is below on average
    nominal_bits  of an example: units x positions x log2(levels); what the codes cost without an entropy coder
    alone_bits    of an example that is a file of its own; mean over the test set
    loss          hard loss of what the decoder gives; beside it, the measures of the medium

    Raises:
        ConfigError: there is no finished run, or its data cannot be had.
    """
    rows = [row for name, runs in fields(find(folder)).items() for row in _of_field(name, runs)]
    table = pd.DataFrame(rows)
    return table.assign(path=[row["path"].relative_to(folder) if row["is_run"] else None for row in rows])


def fields(found: Sequence[Stored]) -> dict[str, list[Stored]]:
    """Runs that may be compared, by name: those of the same data with the same loss."""
    groups: dict[str, list[Stored]] = {}
    for run in found:
        groups.setdefault(json.dumps([_data(run), run.result["config"]["loss"]], sort_keys=True), []).append(run)
    names = [_name(runs[0]) for runs in groups.values()]
    unique = [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names, 1)]
    return dict(zip(unique, groups.values(), strict=True))


def _name(run: Stored) -> str:
    choices = run.config.choices
    return f"{choices.data}_{choices.loss}"


def _data(run: Stored) -> dict[str, Any]:
    return {key: value for key, value in run.result["config"]["data"].items() if key != "data_dir"}


def _of_field(name: str, runs: Sequence[Stored]) -> Iterator[dict[str, Any]]:
    config = runs[0].result["config"]
    train, test, quality = _material(runs[0])
    seconds = math.nan if runs[0].is_image else config["data"]["clip_seconds"]
    common = {"field": name, "examples": len(test), "seconds": seconds}
    others = [_others(run) for run in runs]
    for run, other in zip(tqdm(runs, desc=name, delay=2, leave=False), others, strict=True):
        row = of_run(run, test, quality)
        family = "all integers" if math.isnan(row["levels"]) else f"{row['levels']} levels"
        family = f"{family}, {other}" if len({*others}) > 1 else family
        yield {**common, "family": family, "setting": f"{row['units']} units", **row}
    coded = (
        baselines.of_images(train, test)
        if runs[0].is_image
        else baselines.of_audio(train, test, config["data"]["sample_rate_hz"])
    )
    for baseline in coded:
        yield {**common, **of_baseline(baseline, quality)}


def of_run(run: Stored, test: np.ndarray, quality: Quality) -> dict[str, Any]:
    """A row of `measure`: the test set encoded, decoded from the bytes alone, and compared.

    Raises:
        ValueError: the decoder gives other codes than were encoded.
    """
    statistics, batch_size = run.statistics, run.config.batch_size
    codec = Codec(_as_here(run).model(), batch_size)
    code = _batchwise(codec.encode, test, batch_size)
    units = code.shape[-1]
    rows = code.reshape(-1, units)
    data = bitstream.encode(rows, statistics)
    read = bitstream.Decoder(data, len(rows), statistics).read(len(rows))
    if not np.array_equal(read, rows):
        raise ValueError(f"{run.path}: what was decoded is not what was encoded")
    x_hat = _batchwise(codec.decode, read.reshape(code.shape), batch_size)
    alone = [_file_size(run, 1, bitstream.encode(one.reshape(-1, units), statistics)) for one in code]
    levels = statistics.counts.shape[1] if statistics.bounded else math.nan
    return {
        "is_run": True,
        "units": units,
        "levels": levels,
        "seed": run.config.seed,
        "bits": 8 * _file_size(run, len(test), data) / len(test),
        "ideal_bits": bitstream.ideal_bits([rows], statistics) / len(test),
        "nominal_bits": rows.size / len(test) * math.log2(levels),
        "alone_bits": 8 * float(np.mean(alone)),
        **quality(x_hat),
        "path": run.path,
    }


def of_baseline(coded: Coded, quality: Quality) -> dict[str, Any]:
    """A row of `measure`."""
    return {
        "is_run": False,
        "family": coded.name,
        "setting": coded.setting,
        "bits": 8 * coded.size / len(coded.x_hat),
        **quality(coded.x_hat),
    }


def _file_size(run: Stored, count: int, data: bytes) -> int:
    """Bytes of a file of so many examples, without names."""
    shape = run.statistics.shape
    if run.is_image:
        header = Header(run.digest, 0, (shape[0], shape[1]), [Item("")] * count)
    else:
        header = Header(run.digest, run.config.data.sample_rate_hz, (0, 0), [Item("", shape[0])] * count)
    return len(container.pack(header, data))


def _others(run: Stored) -> str:
    """What tells a run from others of the same field, beside units, levels and seed."""
    config, choices = run.result["config"], run.config.choices
    return ", ".join(filter(None, [choices.model, choices.rounding, settings(config, HOW)]))


def _as_here(run: Stored) -> Stored:
    # Runs of other numbers of threads are measured in one process, which can have but one.
    return run._replace(config=OmegaConf.create({**run.config, "threads": None}))


def _material(run: Stored) -> tuple[np.ndarray, np.ndarray, Quality]:
    """Training and test set, and what measures on the latter."""
    _as_here(run).start()
    from data.pipeline import read
    from telemetry.media import media_of

    config = run.result["config"]
    with explained(f"data={run.config.choices.data}"):
        splits = read(instantiate(config["data"]), config["cache_gb"])
    train, test = (np.asarray(part[: len(part)]) for part in (splits.train, splits.test))
    measures = {"loss": instantiate(config["loss"]), **media_of(config["data"], test.shape[1:]).measures}
    size = config["batch_size"]

    def quality(x_hat: np.ndarray) -> dict[str, float]:
        def mean(of: Callable[..., Any]) -> float:
            parts = range(0, len(test), size)
            return float(np.concatenate([of(test[i : i + size], x_hat[i : i + size]) for i in parts]).mean())

        return {name: mean(of) for name, of in measures.items()}

    return train, test, quality


def _batchwise(of: Callable[[np.ndarray], np.ndarray], examples: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([of(examples[start : start + size]) for start in range(0, len(examples), size)])

"""A walk through the latent of a trained run: what its units do, what lies between two codes, which codes are near.

Codes are int32 `[n, ..., units]`.
"""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from coding import pictures
from coding.stored import Codec, Stored
from conf.errors import explained
from conf.targets import instantiate
from data.pipeline import Splits, evaluation_batches, read
from telemetry import output
from telemetry.comparison import page
from telemetry.comparison.tables import Table
from telemetry.rendering import png

log = logging.getLogger("codec")

FOR_EFFECT = 64
"""Validation examples on which a unit's effect is measured."""

MOST = 10_000
"""Examples of a set, at most, that are looked at."""

NOTES = (
    "bits: entropy of a unit's codes, each unit on its own; on the validation set, and on the training set.",
    "effect: root mean square change of x_hat, over validation examples, if the unit alone takes one step: a bit is "
    "flipped, an integer goes up by one, or down where it is the highest; of sounds in the loudest frame only.",
)

GOLDEN = (math.sqrt(5) - 1) / 2


def inspect(stored: Stored, path: Path) -> None:
    """Writes `latent.html`, its pictures, `units.csv`, and of audio WAV files; says the gist.

    Args:
        stored: the run, started; its data set is read again.
        path: of the folder.

    Raises:
        ConfigError: the path exists or cannot be written; the data cannot be had, or the weights not be read.
    """
    latent = Latent(stored)
    splits = splits_of(stored)
    with output.fresh(path) as draft:
        draft.mkdir()
        units, figures, sounds = walk(latent, splits)
        units.to_csv(draft / "units.csv", index=False, float_format="%.6g")
        files = {name: (caption, png(figure)) for name, (caption, figure) in figures.items()}
        for name, (_, content) in files.items():
            (draft / f"{name}.png").write_bytes(content)
        for name, content in sounds.items():
            (draft / f"{name}.wav").write_bytes(content)
        gist = summary(units, stored)
        parts = [pictures.players(sounds), page.pictures_html(files)]
        text = page.document("Latent", f"{stored.path}: {'; '.join(gist)}", "Units", _table(units), NOTES, parts)
        (draft / "latent.html").write_text(text)
    log.info("%s\n%s: open latent.html", "\n".join(gist), path)


def splits_of(stored: Stored) -> Splits[Any]:
    """The run's data.

    Raises:
        ConfigError: it is not at hand.
    """
    with explained(f"data={stored.config.choices.data}"):
        return read(instantiate(stored.data()), stored.config.cache_gb)


class Latent:
    """A run's encoder and decoder, and what codes there are.

    Args:
        stored: the run, started.
    """

    def __init__(self, stored: Stored) -> None:
        self.codec = Codec(stored.model(), stored.config.batch_size)
        self.statistics = stored.statistics
        self.units = len(stored.statistics.counts)
        self.levels = stored.statistics.counts.shape[1] if stored.statistics.bounded else None
        self.kind = pictures.kind_of(stored.config.data, stored.statistics.shape)

    def encode(self, examples: Any) -> np.ndarray:
        """The codes of the first examples of a set, `MOST` at most."""
        batches = evaluation_batches(examples, self.codec.batch_size).take(-(-MOST // self.codec.batch_size))
        return np.concatenate([self.codec.encode(x) for x in batches.as_numpy_iterator()])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """`x_hat` of any number of codes."""
        size = self.codec.batch_size
        parts = [self.codec.decode(codes[start : start + size]) for start in range(0, len(codes), size)]
        return np.concatenate(parts)

    def up(self, codes: np.ndarray) -> np.ndarray:
        """Of each code its one step: 1, or -1 where there is none above."""
        highest = np.inf if self.levels is None else self.levels - 1
        return np.where(codes < highest, 1, -1).astype(np.int32)


def walk(latent: Latent, splits: Splits[Any]) -> tuple[pd.DataFrame, dict[str, Any], dict[str, bytes]]:
    """All there is to see.

    Returns:
        A table with a row a unit; by name, captions and figures; by name, WAV files.
    """
    kind = latent.kind
    validation = latent.encode(splits.validation)
    few = validation[:FOR_EFFECT]
    x_hat = latent.decode(few)
    effects, excerpts = effects_of(latent, few, x_hat)
    units, counts = units_of(latent, validation, effects), counts_of(validation)
    order = np.argsort(-effects, kind="stable")
    figures = {"usage": pictures.usage(units, counts, latent.levels), "steps": kind.effects(x_hat, excerpts, order)}
    examples = splits.test[: pictures.EXAMPLES].numpy()
    codes = latent.encode(splits.test[: len(examples)])
    x_hat = latent.decode(codes)
    if latent.levels != 2 and codes.ndim == 2:  # a sound has many codes of a unit
        swept = swept_codes(counts, pictures.LEVELS)
        rows = [
            (f"{unit} ({codes[0, unit]})", latent.decode(set_to(codes[0], unit, swept)))
            for unit in order[: pictures.UNITS]
        ]
        figures["sweeps"] = pictures.sweeps(kind, swept, rows)
    pairs = [(i, int(distances(codes[i], codes).argmax())) for i in range(min(kind.pairs, len(codes)))]
    paths = [latent.decode(path_of(codes[a], codes[b], order, kind.steps)) for a, b in pairs]
    figures["interpolation"] = pictures.interpolation(
        kind, paths, [fade(x_hat[a], x_hat[b], kind.steps) for a, b in pairs]
    )
    found = [
        ([splits.train[int(i) : int(i) + 1].numpy()[0] for i in numbers], far)
        for numbers, far in nearest(codes, latent.encode(splits.train), pictures.NEAREST)
    ]
    figures["neighbours"] = pictures.neighbours(kind, examples, x_hat, found)
    return units, figures, kind.sounds(paths)


def effects_of(latent: Latent, codes: np.ndarray, x_hat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a step of each unit changes.

    Args:
        latent: of a run.
        codes: some examples'.
        x_hat: decoded.

    Returns:
        The change's root mean square `[units]`, and what is drawn of it, `[units, ...]`.
    """
    places = latent.kind.places(x_hat, codes.shape[1:-1])
    effects, excerpts = [], []
    for unit in range(latent.units):
        changed, up = codes.copy(), latent.up(codes[..., unit])
        changed[..., unit] += np.where(places, up, 0)
        change = latent.decode(changed) - x_hat
        effects.append(math.sqrt(np.mean(change**2, dtype=np.float64)))
        excerpts.append(latent.kind.excerpt(change, up[places], places))
    return np.array(effects), np.stack(excerpts)


def counts_of(codes: np.ndarray) -> pd.DataFrame:
    """How often each unit takes each code, units by those codes that are taken at all."""
    columns = codes.reshape(-1, codes.shape[-1]).T
    return pd.DataFrame([pd.Series(column).value_counts() for column in columns]).sort_index(axis=1).fillna(0)


def units_of(latent: Latent, codes: np.ndarray, effects: np.ndarray) -> pd.DataFrame:
    """A row a unit: how it is used on a set's codes, and its effect."""
    counts = counts_of(codes)
    return pd.DataFrame(
        {
            "unit": np.arange(latent.units),
            "bits": [entropy_bits(row) for row in counts.to_numpy()],
            "bits_training": [entropy_bits(row) for row in latent.statistics.counts],
            "bits_possible": math.log2(latent.levels) if latent.levels else math.nan,
            "codes_used": (counts > 0).sum(axis=1).to_numpy(),
            "commonest_code": counts.idxmax(axis=1).to_numpy(),
            "commonest_share": (counts.max(axis=1) / counts.sum(axis=1)).to_numpy(),
            "effect": effects,
        }
    )


def entropy_bits(counts: np.ndarray) -> float:
    """Of one unit's codes, from how often it took each."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def swept_codes(counts: pd.DataFrame, most: int) -> np.ndarray:
    """So many codes, at most, evenly over those that are taken, but for the rarest half percent on either side."""
    below = counts.sum().cumsum() / counts.to_numpy().sum()
    taken = below.index[(below > 0.005) & (below.shift(fill_value=0) < 0.995)]
    low, high = int(taken[0]), int(taken[-1])
    return np.unique(np.linspace(low, high, min(most, high - low + 1)).round().astype(np.int32))


def set_to(code: np.ndarray, unit: int, values: np.ndarray) -> np.ndarray:
    """A code `[units]` with one unit set to each of some values, `[values, units]`."""
    codes = np.repeat(code[None], len(values), axis=0)
    codes[:, unit] = values
    return codes


def path_of(a: np.ndarray, b: np.ndarray, order: np.ndarray, steps: int) -> np.ndarray:
    """Codes from one to another, `[steps, ..., units]`: each unit's on the straight line, rounded.

    Rounded to nearest, all bits would flip in the middle at once. So each unit rounds at another place; strong and
    weak units take turns.

    Args:
        a: a code `[..., units]`.
        b: alike.
        order: the units, strongest first.
        steps: 2 or more, with both ends.
    """
    rounds_at = np.empty(len(order))
    rounds_at[order] = GOLDEN * np.arange(1, len(order) + 1) % 1
    t = np.linspace(0, 1, steps).reshape(-1, *[1] * a.ndim)
    way = b.astype(np.int64) - a
    return (a + np.sign(way) * np.floor(np.abs(way) * t + rounds_at)).astype(np.int32)


def fade(x: np.ndarray, y: np.ndarray, steps: int) -> np.ndarray:
    """From one to another without codes, `[steps, ...]`."""
    t = np.linspace(0, 1, steps).reshape(-1, *[1] * x.ndim)
    return ((1 - t) * x + t * y).astype(np.float32)


def distances(code: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Of a code from others, `[n]`: how many steps of single units lie between (of bits: Hamming's)."""
    return np.abs(codes.astype(np.int64) - code).reshape(len(codes), -1).sum(axis=1)


def nearest(codes: np.ndarray, among: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each code the numbers of the nearest others, nearest first, and their distances."""
    found = []
    for code in codes:
        far = distances(code, among)
        order = np.argsort(far, kind="stable")[:count]
        found.append((order, far[order]))
    return found


def summary(units: pd.DataFrame, stored: Stored) -> list[str]:
    """The gist, in a few lines."""
    positions = math.prod(stored.statistics.positions)
    bits, possible = positions * units["bits"].sum(), positions * units["bits_possible"].sum(min_count=1)
    of = "" if math.isnan(possible) else f" of {possible:,.0f} possible"
    unused = units.loc[units["codes_used"] == 1, "unit"]
    ranked = units.sort_values("effect", ascending=False, kind="stable")
    ends = [
        ", ".join(f"{unit:.0f} ({effect:.2g})" for unit, effect in part[["unit", "effect"]].to_numpy())
        for part in (ranked.head(3), ranked.tail(3)[::-1])
    ]
    return [
        f"bits used: {bits:,.1f}{of} per example of the validation set",
        f"units that only ever take one code: {', '.join(map(str, unused)) or 'none'}",
        f"strongest units (change of x_hat by one step, RMS): {ends[0]}",
        f"weakest: {ends[1]}",
    ]


def _table(units: pd.DataFrame) -> Table:
    heads = [name.replace("_", " ") for name in units]
    lines = [["" if isinstance(v, float) and math.isnan(v) else f"{v:.4g}" for v in row] for row in units.to_numpy()]
    return Table(1, heads, lines)

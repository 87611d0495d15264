"""Means over seeds, how sure they are, and whether the best one is better than the others by more than chance."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from telemetry.comparison.runs import Panel

SIGNIFICANT = 0.05


def ranking(panels: Sequence[Panel], by: str, keys: Sequence[str]) -> pd.DataFrame:
    """A row for each member of `by` in each panel, best first.

    Columns: the panel's keys, `by`, `runs`, `seeds`; of each key `<key>_mean`, `_std` and `_count`, over seeds;
    `test_loss_ci95`; `p` and `p_holm` (`paired_p` against the panel's best, `holm` over the panel), NaN for the best.

    Args:
        panels: to rank.
        by: the key that is compared.
        keys: of `result.json`, `test_loss` among them.
    """
    rows = [row for panel in panels for row in _ranked(panel, by, keys)]
    return pd.DataFrame(rows)


def _ranked(panel: Panel, by: str, keys: Sequence[str]) -> list[dict[str, object]]:
    finished = dict(list(panel.finished.groupby(by)))
    # The same seed twice is no second sample: two such runs count as their mean.
    seeds = {name: _by_seed(finished[name], keys) for name in panel.names if name in finished}
    if not seeds:
        return []
    losses = [frame["test_loss"] for frame in seeds.values()]
    p = np.array([np.nan, *(paired_p(losses[0], other) for other in losses[1:])])
    rows = []
    for (name, frame), raw, corrected in zip(seeds.items(), p, holm(p), strict=True):
        row = {**panel.keys, by: name, "runs": len(finished[name]), "seeds": len(frame)}
        for key in keys:
            row |= {
                f"{key}_mean": frame[key].mean(),
                f"{key}_std": frame[key].std(),
                f"{key}_count": frame[key].count(),
            }
        rows.append({**row, "test_loss_ci95": half_width(frame["test_loss"]), "p": raw, "p_holm": corrected})
    return rows


def _by_seed(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    return runs[list(keys)].apply(pd.to_numeric, errors="coerce").groupby(runs["seed"]).mean()


def half_width(values: pd.Series, confidence: float = 0.95) -> float:
    """Of the mean's confidence interval, from Student's t; NaN for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std() / np.sqrt(len(values)))


def paired_p(best: pd.Series, other: pd.Series) -> float:
    """The paired t-test's p-value over the seeds (the index) that both have; NaN for fewer than two, 1 if all equal."""
    from scipy import stats

    seeds = best.index.intersection(other.index)
    a, b = best[seeds].to_numpy(), other[seeds].to_numpy()
    if len(seeds) < 2:
        return float("nan")
    if np.array_equal(a, b):
        return 1.0
    with warnings.catch_warnings():  # all differences alike: p is 0, and SciPy says that it is imprecise
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(stats.ttest_rel(a, b).pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values `[n]` for how many there are; NaN are no tests and stay."""
    order = np.argsort(p)  # NaN last
    tests = np.isfinite(p).sum()
    factors = np.maximum(tests - np.arange(len(p)), 1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected

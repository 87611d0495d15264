"""Finished runs side by side: a table, and learning curves with mean and spread over seeds.

python compare.py                                       all runs below runs/
python compare.py runs=elsewhere where.latent=binary    some of them
python compare.py by=latent metric=val_code_usage       another question

Writes table.md and learning_curves.png to comparison/. Needs no TensorFlow.
"""

import json
import logging
import math
from pathlib import Path

import hydra
import pandas as pd
from omegaconf import DictConfig

from conf import GROUPS
from conf.checks import ConfigError
from conf.errors import one_sentence
from conf.settings import INCIDENTAL, settings

log = logging.getLogger("compare")

# What differs here makes two runs no others; the number of epochs does.
HOW = [key for key in INCIDENTAL if key != "epochs"]

# Title, key of result.json, format; a column that no run has is left out.
COLUMNS = [
    ("hard test loss", "test_loss", "{:.4f}"),
    ("test PSNR, dB", "test_psnr", "{:.2f}"),
    ("test SI-SDR, dB", "test_si_sdr", "{:.2f}"),
    ("test log-spectral distance, dB", "test_log_spectral_distance", "{:.2f}"),
    ("val gap", "val_gap", "{:.4f}"),
    ("bits", "bits_per_example", "{:.1f}"),
    ("bits/s", "bits_per_second", "{:.0f}"),
    ("code usage", "code_usage", "{:.2f}"),
    ("transmission", "transmission", "{:.2f}"),
    ("zero fraction", "zero_fraction", "{:.2f}"),
    ("gradient cosine", "gradient_cosine", "{:.2f}"),
    ("bias", "gradient_bias", "{:.2f}"),
    ("variance", "gradient_variance", "{:.2f}"),
    ("seconds", "seconds", "{:.0f}"),
]


@hydra.main(config_path="conf", config_name="compare", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Reads, prints and draws."""
    with one_sentence("compare"):
        if cfg.by not in GROUPS:
            raise ConfigError(f"by={cfg.by}: choose from {', '.join(GROUPS)}")
        runs = read_runs(Path(cfg.runs), {group: name for group, name in cfg.where.items() if name is not None})
        output = Path(cfg.output)
        output.mkdir(parents=True, exist_ok=True)
        panels = [group for group in [*GROUPS, "settings"] if group != cfg.by]
        text = table(runs, [*panels, cfg.by])
        (output / "table.md").write_text(text)
        draw(runs, panels, cfg.by, cfg.metric, output / "learning_curves.png")
        log.info("%s\n%d runs; written to %s/", text, len(runs), output)


def read_runs(folder: Path, where: dict[str, str]) -> pd.DataFrame:
    """One row for each finished run below a folder: its choices, other `settings`, its results, and its `path`.

    Runs that did not finish, and broken ones, are named in the log and left out; so are those moved aside.

    Raises:
        ConfigError: there is none.
    """
    rows = []
    for path in sorted(folder.rglob("result.json")):
        if "~" in str(path.relative_to(folder)):
            continue
        try:
            result = json.loads(path.read_text())
            config = result["config"]
            row = {**config["choices"], "settings": settings(config, HOW, GROUPS), **result, "path": path.parent}
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("left out: %s is not a whole result (%s: %s)", path, type(error).__name__, error)
            continue
        if any(row[group] != name for group, name in where.items()):
            continue
        if row["status"] != "finished":
            log.warning("left out: %s %s (%s)", path.parent, row["status"], row.get("reason"))
            continue
        rows.append(row)
    if not rows:
        raise ConfigError(f"runs={folder} holds no finished run that fits: train some with python train.py")
    return pd.DataFrame(rows)


def table(runs: pd.DataFrame, by: list[str]) -> str:
    """Markdown: a row for each combination, mean and sample standard deviation over its runs, best test loss first."""
    varying = [*(key for key in by[:-1] if runs[key].nunique() > 1), by[-1]]
    columns = [(title, key, form) for title, key, form in COLUMNS if key in runs]
    stats = runs.groupby(varying)[[key for _, key, _ in columns]].agg(["mean", "std", "count"])
    stats = stats.sort_values([*varying[:-1], ("test_loss", "mean")])
    lines = [[*varying, "runs", *(title for title, _, _ in columns)], ["---"] * (len(varying) + 1 + len(columns))]
    for names, row in zip(stats.index.to_frame().values, stats.to_dict("records"), strict=True):
        cells = [_mean_and_spread(row[key, "mean"], row[key, "std"], form) for _, key, form in columns]
        lines.append([*(f"`{name}`" if name else "" for name in names), str(row["test_loss", "count"]), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(runs: pd.DataFrame, panels: list[str], by: str, metric: str, path: Path) -> None:
    """One panel for each combination of `panels`; a line for each member of `by`, a band of one deviation."""
    from matplotlib import colormaps, style
    from matplotlib.figure import Figure

    style.use("seaborn-v0_8-whitegrid")
    varying = [key for key in panels if runs[key].nunique() > 1] or panels[:1]
    groups = list(runs.groupby(varying))
    # Ranks, not losses: those of other panels are of other sizes.
    ranks = runs.groupby(varying)["test_loss"].rank()
    names = ranks.groupby(runs[by]).mean().sort_values().index
    comparable = runs[["data", "loss"]].drop_duplicates().shape[0] == 1
    figure = Figure(figsize=(1.8 + 4.6 * len(groups), 4.2), layout="constrained")
    axes = figure.subplots(1, len(groups), sharey=comparable, squeeze=False)[0]
    for axis, (title, panel) in zip(axes, groups, strict=True):
        for number, name in enumerate(names):
            curves = [_curve(folder, metric) for folder in panel.loc[panel[by] == name, "path"]]
            if not curves:
                continue
            frame = pd.concat(curves, axis=1)
            mean, spread = frame.mean(axis=1), frame.std(axis=1).fillna(0)
            colour = colormaps["tab20"](number % 20)
            axis.plot(mean.index, mean, color=colour, linestyle=("-", "--", ":")[number % 3], label=name)
            axis.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
        axis.set(
            title=", ".join(filter(None, map(str, title))),
            xlabel="epoch",
            yscale="log" if metric.endswith("loss") else "linear",
        )
        axis.grid(visible=True, which="both", linewidth=0.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.yaxis.set_major_formatter("{x:.3g}")
        axis.yaxis.set_minor_formatter("{x:.3g}")
    axes[0].set_ylabel(f"{metric} (hard)" if metric == "val_loss" else metric)
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", title="best test loss first")
    figure.savefig(path, dpi=120)


def _curve(folder: Path, metric: str) -> pd.Series:
    frame = pd.read_csv(folder / "metrics.csv", index_col="epoch")
    if metric not in frame:
        raise ConfigError(
            f"metric={metric} is no column of {folder}/metrics.csv: choose from {', '.join(frame.columns)}, "
            f"or leave such runs out with where.data=..."
        )
    return frame[metric].dropna()  # some are measured in some epochs only


def _mean_and_spread(mean: float, spread: float, form: str) -> str:
    if math.isnan(mean):
        return ""  # runs of another kind of data have this one
    return form.format(mean) + ("" if math.isnan(spread) else f" ± {form.format(spread)}")


if __name__ == "__main__":
    with one_sentence("compare"):
        main()

"""Runs side by side: a ranking, learning curves, gradient flow, reconstructions.

python compare.py                                       all runs below runs/
python compare.py runs=elsewhere where.latent=binary    some of them
python compare.py by=latent metric=val_code_usage       another question

Writes tables, pictures and comparison.html, which has all of them, to comparison/. Needs no TensorFlow.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from conf import GROUPS
from conf.checks import TEXT, ConfigError, check_all, one_of, or_null
from conf.errors import one_sentence
from telemetry.output import check_writable, writing

if TYPE_CHECKING:  # a mistake on the command line is answered before pandas is imported
    from telemetry.comparison.runs import Panel

log = logging.getLogger("compare")

KEYS = (*GROUPS, "settings")

RULES = {
    "runs": TEXT,
    "output": TEXT,
    "by": one_of(*KEYS),
    "metric": TEXT,
    **{f"where.{group}": or_null(TEXT) for group in GROUPS},
}

MOST_PANELS = 16
"""In a picture."""


@hydra.main(config_path="conf", config_name="compare", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Reads, prints and draws."""
    with one_sentence("compare"):
        values = check_all(cfg, RULES)
        where = {group: name for group, name in values["where"].items() if name is not None}
        folder, output = (Path(values[key]).expanduser() for key in ("runs", "output"))
        check_writable(output)
        compare(folder, where, values["by"], values["metric"], output)


def compare(folder: Path, where: Mapping[str, str], by: str, metric: str, output: Path) -> None:
    """Writes all there is to say about the runs below a folder.

    Args:
        folder: searched for runs.
        where: only runs with these members of groups.
        by: what is compared: a group, or `settings`, which is what else was set.
        metric: the curves' column of `metrics.csv`.
        output: written to; what was there of the same names is replaced.

    Raises:
        ConfigError: there is no run that fits, or one without the metric; the output cannot be written.
    """
    from telemetry.comparison import page, runs, statistics, tables

    found = runs.read_runs(folder, where)
    left_out = tables.left_out(found)
    shown = found[found["status"].isin(["finished", "running"])]
    if shown.empty:
        log.info("\n".join(left_out))
        raise ConfigError(f"runs={folder} holds no finished run that fits: train some with python train.py")
    runs.check_metric(shown, metric)
    panels = runs.panels_of(shown, [key for key in KEYS if key != by], by)
    ranking = statistics.ranking(panels, by, [key for _, key, _ in tables.COLUMNS if key in shown])
    table = tables.table(ranking, [*panels[0].keys, by])
    counts = ", ".join(f"{count} {status}" for status, count in found["status"].value_counts().items())

    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        ranking.to_csv(output / "table.csv", index=False)
        (output / "table.md").write_text(tables.markdown(table, left_out))
        pictures = draw(panels, by, metric, output)
        (output / "comparison.html").write_text(page.page(f"{folder}: {counts} runs", table, left_out, pictures))
    log.info("%s", "\n".join([tables.terminal(table), "", *tables.NOTES, *left_out]))
    log.info("%s runs; written to %s/: open comparison.html", counts, output)


def draw(panels: "Sequence[Panel]", by: str, metric: str, output: Path) -> dict[str, tuple[str, bytes]]:
    """Stores the pictures that there is something for, and removes older ones of the others.

    Returns:
        By name, a caption and the PNG file.
    """
    from telemetry.comparison import curves, pictures, reconstructions
    from telemetry.comparison.runs import overall
    from telemetry.rendering import png

    if len(panels) > MOST_PANELS:
        log.warning("the pictures show %d of %d settings: say which with where....", MOST_PANELS, len(panels))
    names, panels = overall(panels), panels[:MOST_PANELS]
    figures = {
        "learning_curves": (curves.learning_curves(panels, by, metric, names), curves.CAPTION),
        "loss_against_bits": (pictures.loss_against_bits(panels, by, names), pictures.BITS_CAPTION),
        "gradient_flow": (pictures.gradient_flow(panels, by), pictures.FLOW_CAPTION),
        "reconstructions": (reconstructions.reconstructions(panels, by), reconstructions.CAPTION),
    }
    files = {name: (caption, png(figure)) for name, (figure, caption) in figures.items() if figure}
    for name in figures:
        (output / f"{name}.png").unlink(missing_ok=True)
    for name, (_, content) in files.items():
        (output / f"{name}.png").write_bytes(content)
    return files


if __name__ == "__main__":
    with one_sentence("compare"):
        main()

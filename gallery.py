"""Every strategy as a picture: its function and its gradient, at several settings.

python gallery.py                                           all of them, and the overview
python gallery.py rounding=cubic                            one
python gallery.py rounding=cubic rounding.power=21          at another setting
python gallery.py -m rounding=sine,cubic output=pictures    some, elsewhere

Writes <name>.png and overview.png to docs/gallery/. conf/gallery.yaml says at which settings each one is drawn.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf import compose
from conf.checks import SECTION, TEXT, ConfigError, check_all, members
from conf.errors import explained, one_sentence
from models.build import make_rounding
from telemetry.output import check_writable, writing

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    from matplotlib.figure import Figure

    from telemetry.curves import Variant

log = logging.getLogger("gallery")

STEPS = 1000  # of the training that `progress` is a share of

DRAWS = 4000


@hydra.main(config_path="conf", config_name="gallery", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Draws, and prints what it wrote."""
    with one_sentence("gallery"):
        choices: Any = HydraConfig.get().runtime.choices
        if "rounding" not in choices:
            raise ConfigError("rounding takes one name; to draw some, add -m: python gallery.py -m rounding=sine,cubic")
        output = Path(check_all(cfg, {"output": TEXT, "variations": SECTION})["output"]).expanduser()
        check_writable(output)
        words = [word for word in HydraConfig.get().overrides.task if word.startswith(("rounding.", "rounding@"))]
        variations: Any = OmegaConf.to_container(cfg.variations)
        names = [choices.rounding] if choices.rounding else members("rounding")
        if words:  # settings of one's own, in place of those
            places = [values for values in variations.get(choices.rounding, []) if list(values) == ["progress"]]
            variations = {choices.rounding: places or [{}]}
        configs = {name: composed(name, variations.get(name, [{}]), words) for name in names}
        with writing(output):
            draw(configs, output, with_overview=len(names) > 1)


def composed(name: str, variations: list[dict[str, Any]], words: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """A strategy's configuration in each of its variations, by the legend's label.

    Args:
        name: of the strategy.
        variations: hyperparameters that differ from its YAML, and `progress`, the share of training done.
        words: of the command line, `rounding.<hyperparameter>=<value>`.

    Raises:
        ConfigError: it has no such hyperparameter.
    """
    if not variations or not isinstance(variations, list) or not all(isinstance(v, dict) for v in variations):
        raise ConfigError(f"variations.{name} must be a list such as [{{alpha: 3}}, {{alpha: 7}}], got {variations}")
    base: Any = OmegaConf.to_container(compose([f"rounding={name}", *words]).rounding)
    own = {key: value for key, value in base.items() if not key.startswith("_") and not isinstance(value, dict)}
    for key in [key for values in variations for key in values]:
        if key not in base and key != "progress":
            raise ConfigError(f"variations.{name}: there is no {key}, choose from {', '.join(own) or 'none'}")
    labels = [", ".join(f"{key}={value}" for key, value in (values or own).items()) for values in variations]
    return {label or name: {**base, **values} for label, values in zip(labels, variations, strict=True)}


def variant(progress: float = 0.0, **config: Any) -> "Variant":
    """A strategy as it is drawn, `(u, seed) -> code`, at a share of training."""
    from rounding import bind

    strategy = make_rounding(OmegaConf.create(config), STEPS)
    return lambda u, seed: bind(strategy, step=progress * STEPS, progress=progress, seed=seed)(u)


def draw(configs: dict[str, dict[str, dict[str, Any]]], output: Path, with_overview: bool) -> None:
    """Writes `<name>.png` of each strategy, and the overview of them.

    Raises:
        ConfigError: a strategy refuses a value.
    """
    from telemetry import session

    session.start(threads=None, jit_compile=False)
    from telemetry import curves

    output.mkdir(parents=True, exist_ok=True)
    strategies = {}
    for name, variations in configs.items():
        with explained(f"rounding={name}"):
            strategies[name] = {label: variant(**config) for label, config in variations.items()}
            figure = curves.draw(strategies[name], name, DRAWS)
        save(figure, output / f"{name}.png")
    if with_overview:
        save(curves.overview(strategies, DRAWS), output / "overview.png")


def save(figure: "Figure", path: Path) -> None:
    """Writes a picture, finer than the README shows it."""
    from telemetry.rendering import png

    figure.set_dpi(150)
    path.write_bytes(png(figure))
    log.info("%s", path)


if __name__ == "__main__":
    with one_sentence("gallery"):
        main()

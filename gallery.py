"""Every strategy as a picture: its function and its gradient, at several settings.

python gallery.py                                              all of them, and the overview
python gallery.py rounding=sine                                one
python gallery.py 'rounding=[sine,cubic]' output=pictures      some, elsewhere
python gallery.py rounding=cubic 'variations.cubic=[{power: 21}]'

Writes <name>.png and overview.png to docs/gallery/. conf/gallery.yaml says at which settings each one is drawn.
"""

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from conf import compose
from conf.checks import ConfigError, members
from conf.errors import explained, one_sentence

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    import tensorflow as tf
    from matplotlib.figure import Figure

    from telemetry.curves import Variant

log = logging.getLogger("gallery")


@hydra.main(config_path="conf", config_name="gallery", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Draws, and prints what it wrote."""
    with one_sentence():
        variations: Any = OmegaConf.to_container(cfg.variations)
        configs = {name: composed(name, variations.get(name, [{}])) for name in chosen(cfg.rounding)}
        draw(configs, Path(cfg.output), cfg.draws, with_overview=cfg.rounding is None)


def chosen(rounding: Any) -> list[str]:
    """The strategies that `rounding` names: one, a list, or null for all.

    Raises:
        ConfigError: there is no such strategy.
    """
    known = members("rounding")
    names = known if rounding is None else list(rounding) if OmegaConf.is_list(rounding) else [rounding]
    for name in names:
        if name not in known:
            raise ConfigError(f"rounding={name} does not exist: choose from {', '.join(known)}")
    return names


def composed(name: str, variations: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A strategy's configuration in each of its variations, by the legend's label.

    Raises:
        ConfigError: it has no such hyperparameter.
    """
    base: Any = OmegaConf.to_container(compose([f"rounding={name}"]).rounding)
    own = {key: value for key, value in base.items() if not key.startswith("_") and not isinstance(value, dict)}
    for key in [key for values in variations for key in values]:
        if key not in base and key != "progress":
            raise ConfigError(f"variations.{name}: there is no {key}, choose from {', '.join(own) or 'none'}")
    labels = [", ".join(f"{key}={value}" for key, value in (values or own).items()) for values in variations]
    return {label or name: {**base, **values} for label, values in zip(labels, variations, strict=True)}


def variant(progress: float = 0.0, **config: Any) -> "Variant":
    """A strategy as it is drawn, `(u, seed) -> code`, at a share of training."""
    strategy = hydra.utils.instantiate(config)
    parameters = inspect.signature(strategy).parameters

    def code(u: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        given = {"seed": seed, "progress": progress}
        return strategy(u, **{name: value for name, value in given.items() if name in parameters})

    return code


def draw(configs: dict[str, dict[str, dict[str, Any]]], output: Path, draws: int, with_overview: bool) -> None:
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
            figure = curves.draw(strategies[name], name, draws)
        save(figure, output / f"{name}.png")
    if with_overview:
        save(curves.overview(strategies, draws), output / "overview.png")


def save(figure: "Figure", path: Path) -> None:
    """Writes a picture, one and a half times as fine as the README shows it."""
    figure.savefig(path, dpi=150)
    log.info("%s", path)


if __name__ == "__main__":
    with one_sentence():
        main()

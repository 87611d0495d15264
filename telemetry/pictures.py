"""Pictures of an epoch's close-up: where on the staircase the gradient gets through, and each unit's histograms."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

BINS = 40
LARGEST = 1e30  # what is beyond, or no number, is drawn as this or as 0: a picture must not end a run


def staircase(means: Mapping[str, np.ndarray]) -> Figure:
    """Mean |dL/du| over the place of `u` within its cell: by unit, and of all units beside mean |dL/dcode|.

    Args:
        means: `share`, `dL_dcode` and `dL_du`, `[units, bins]` each, as `CloseUp.result` gives them.
    """
    figure = Figure(figsize=(9, 3.4))
    figure.subplots_adjust(left=0.06, right=0.93, bottom=0.25, top=0.9, wspace=0.25)
    by_unit, over_all = figure.subplots(1, 2)
    means = {name: np.clip(mean.astype(float), -LARGEST, LARGEST) for name, mean in means.items()}
    units, bins = means["dL_du"].shape
    image = by_unit.imshow(means["dL_du"], aspect="auto", extent=(0, 1, units - 0.5, -0.5), interpolation="nearest")
    figure.colorbar(image, ax=by_unit, label="mean |dL/du|")
    by_unit.set(xlabel="t = u - floor(u)", ylabel="unit")
    by_unit.set_title("by unit (white: no u there)", loc="left")  # right of it stands the colours' power of ten
    edges = np.linspace(0, 1, bins + 1)
    weight = np.nan_to_num(means["share"])
    total = np.maximum(weight.sum(axis=0), 1e-12)
    for name, label, colour in (("dL_dcode", "|dL/dcode|: arrives", "0.6"), ("dL_du", "|dL/du|: gets through", "C0")):
        mean = (weight * np.nan_to_num(means[name])).sum(axis=0) / total
        over_all.stairs(np.where(weight.sum(axis=0) > 0, mean, np.nan), edges, color=colour, linewidth=2, label=label)
    over_all.set(title="all units", xlabel="t = u - floor(u)", xlim=(0, 1), ylim=(0, None))
    shares = over_all.twinx()
    shares.stairs(total / total.sum(), edges, fill=True, color="C1", alpha=0.15, label="share of u")
    shares.set(ylim=(0, None), ylabel="share of u")
    figure.legend(loc="lower right", ncols=3, fontsize="small")
    return figure


def histograms(last: Mapping[str, np.ndarray]) -> Figure:
    """A heat map for each tensor: the share of a unit's values in each bin.

    Args:
        last: by name, `[batch, ..., units]` each, as `CloseUp.last` keeps them.
    """
    figure = Figure(figsize=(11, 3.4))
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.17, top=0.9, wspace=0.05)
    for axis, (name, values) in zip(figure.subplots(1, len(last), sharey=True), last.items(), strict=True):
        rows = np.clip(np.nan_to_num(values.reshape(-1, values.shape[-1]).T.astype(float)), -LARGEST, LARGEST)
        low, high = np.quantile(rows, [0.001, 0.999])
        edges = np.linspace(low, max(high, low + 1e-12 + 1e-6 * abs(low)), BINS + 1)
        share = np.stack([np.histogram(np.clip(row, edges[0], edges[-1]), edges)[0] / len(row) for row in rows])
        axis.imshow(np.sqrt(share), aspect="auto", extent=(edges[0], edges[-1], len(rows) - 0.5, -0.5), vmin=0)
        axis.set(title=name.replace("_d", "/d"), xlabel="value")
        axis.ticklabel_format(axis="x", scilimits=(-2, 3))
        axis.xaxis.get_major_locator().set_params(nbins=4)
    figure.axes[0].set_ylabel("unit (brighter: more of its values)")
    return figure

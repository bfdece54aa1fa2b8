"""Do wider networks all end at the same loss, and at points of a low index?

The experiment of Choromanska and others, "The loss surfaces of multilayer networks" (2015):
networks with one hidden layer of rectifiers, a hundred of each of five widths, that differ in
their first weights and in the order of their batches. Here on 1,200 of scikit-learn's digits, by
SGD (batches of 100) whose learning rate falls linearly to zero, for the paper's 200 epochs, and for
40 to see what the length of a training does.

For each width: mean and variance of the final losses, the share of bad runs, the correlation of
training and test loss, all with intervals; and of some networks the share of negative eigenvalues
by three thresholds, beside the norm of the gradient and what is left of it within 1 % of the
weights.

Run it from the repository: ``python -m examples.band_study``, or with ``--config
configs/band.yaml``, the same settings in a file; with ``--data FOLDER`` on the files of MNIST,
shrunk to 10 x 10 as in the paper.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from examples.band_claims import (
    Floats,
    bad_share,
    bootstrap,
    correlation,
    is_one_power,
    local_slopes,
    mean,
    steps,
    variance,
)
from examples.band_figures import band_figure
from examples.band_networks import Images
from examples.band_runs import Band, run_band


def table(bands: Sequence[Band]) -> str:
    """A line for each width."""
    names = ("width", "train loss", "sd", "test loss", "sd", "bad", "correlation of the two")
    widths = (5, 10, 8, 10, 8, 22, 24)
    lines = [" ".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True))]
    for band in bands:
        cells = (
            str(band.width),
            f"{band.train.mean():.4f}",
            f"{band.train.std(ddof=1):.4f}",
            f"{band.test.mean():.4f}",
            f"{band.test.std(ddof=1):.4f}",
            f"{bad_share(band.train):.2f}",
            f"{bootstrap(band.pairs, correlation):.2f}",
        )
        lines.append(" ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return "\n".join(lines)


def point_table(bands: Sequence[Band]) -> str:
    """A line for each network whose point was measured."""
    lines = [f"{'width':>5} {'|g|':>8} {'r(1 %)':>7}  share of negative eigenvalues, by threshold"]
    for band in bands:
        for each in band.points:
            shares = ", ".join(f"{name} {_share(*pair)}" for name, pair in each.index.items())
            lines.append(
                f"{band.width:>5} {each.gradient_norm:>8.1e} {each.gradient_left:>7.3f}  {shares}"
            )
    return "\n".join(lines)


def _share(low: float, high: float) -> str:
    return f"{low:.4f}" if low == high else f"{low:.3f} to {high:.3f}"


def verdicts(bands: Sequence[Band]) -> str:
    """From each width to the next: does it fall?"""
    lines = []
    settings = [band.width for band in bands]
    for part in ("train", "test"):
        losses: list[Floats] = [getattr(band, part) for band in bands]
        slopes = local_slopes(settings, losses)
        lines += [
            f"{part} loss, mean: {', '.join(steps(losses, mean))}",
            f"{part} loss, variance: {', '.join(steps(losses, variance))}",
            f"  its slopes, log against log: {', '.join(f'{each:.1f}' for each in slopes)}",
            f"  one power law: {'possible' if is_one_power(slopes) else 'excluded'}",
        ]
    pairs = [band.pairs for band in bands]
    return "\n".join([*lines, f"correlation: {', '.join(steps(pairs, correlation))}"])


def save(families: Sequence[Sequence[Band]], out: Path) -> None:
    """The figure, and the numbers."""
    out.mkdir(parents=True, exist_ok=True)
    band_figure(families).savefig(out / "band.png", dpi=90)
    records = [band.to_dict() for bands in families for band in bands]
    (out / "study.json").write_text(json.dumps(records))
    print(f"\nsaved {out}/band.png, study.json")


def parser() -> ArgumentParser:
    """Of the command line, and of files with the same settings."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", action="config", help="YAML with any of these")
    parser.add_argument("--data", help="folder with the files of MNIST")
    parser.add_argument("--out", type=Path, default=Path("runs/band_study"))
    parser.add_argument("--widths", type=int, nargs="+", default=[5, 10, 25, 50, 100])
    parser.add_argument("--networks", type=int, default=100, help="of each width")
    parser.add_argument("--epochs", type=int, nargs="+", default=[200, 40], help="of each training")
    parser.add_argument("--rate", type=float, default=0.5, help="the first learning rate")
    parser.add_argument("--samples", type=int, default=1200, help="to train on")
    parser.add_argument("--points", type=int, default=3, help="of each width, to be measured")
    parser.add_argument("--most-counted", type=int, default=2000, help="parameters of such a point")
    return parser


def main() -> None:
    """Train, measure, print tables and verdicts, save."""
    options = parser().parse_args()
    images = Images.read(options.data, options.samples)
    families = []
    for epochs in options.epochs:
        start = time.process_time()
        bands = []
        for width in sorted(options.widths):
            bands.append(run_band(images, width, epochs, options))
            seconds = time.process_time() - start
            print(f"{epochs} epochs, width {width}: {seconds:.0f} s of CPU", flush=True)
        print(f"\n{epochs} epochs, {len(images.train[1]):,} samples, {options.networks} networks")
        print(f"\n{table(bands)}\n\n{verdicts(bands)}\n\n{point_table(bands)}")
        families.append(bands)
    save(families, options.out)


if __name__ == "__main__":
    main()

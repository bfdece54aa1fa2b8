"""Does a wider network's loss move less when a sample is added, and a deeper one's more?

The experiment of Kiselev & Grabovoy, "Unraveling the Hessian" (2024), with the callback measuring:
networks without biases, 784 - h - ... - h - 10, trained by Adam (0.001, batches of 64) for ten
epochs on 10,000 images. Widths 4 to 64 at depth 5 and depths 1 to 10 at width 16, where the depth
counts the square matrices between hidden layers, as in the paper's figures: depth 5 has seven
matrices.

The paper averages over 100 random orders, and smooths by a moving average that starts at the first
point. Here the mean over all orders is given in closed form. Since it is about MAD / (k + 1), with
MAD the mean absolute deviation of the losses of single samples, every curve is the same but for
that factor; so the two claims are tested on it, with seeds, also relative to the loss, and at equal
loss during the training.

Run it from the repository: ``python -m examples.sample_size_study --data FOLDER``, where the folder
holds the four files of MNIST; FashionMNIST has the same names. Without one, scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from examples.data import HeldOutMnist
from examples.sample_size_figures import family_figure
from examples.sample_size_runs import FIXED_DEPTH, FIXED_WIDTH, Family, Run, deviation_of, train
from lightning_hessian import LossDifferenceReport

QUESTIONS = {
    "width": "is the difference smaller in wider networks?",
    "depth": "is the difference larger in deeper networks?",
}


def families_of(data: HeldOutMnist, name: str, options: argparse.Namespace) -> list[Family]:
    """Train all networks on one data set; one that belongs to both families is trained once."""
    trained: dict[tuple[int, int, int], Run] = {}

    def run(width: int, depth: int, seed: int) -> Run:
        key = (width, depth, seed)
        if key not in trained:
            start = time.perf_counter()
            trained[key] = train(
                data, name, width=width, depth=depth, seed=seed, epochs=options.epochs
            )
            loss = trained[key].report.loss
            print(
                f"{name}: width {width}, depth {depth}, seed {seed}: training loss {loss:.4f} "
                f"({time.perf_counter() - start:.1f} s)",
                flush=True,
            )
        return trained[key]

    seeds = range(options.seeds)
    widths = [[run(width, FIXED_DEPTH, seed) for width in sorted(options.widths)] for seed in seeds]
    depths = [[run(FIXED_WIDTH, depth, seed) for depth in sorted(options.depths)] for seed in seeds]
    return [Family(widths, "width"), Family(depths, "depth")]


def table(family: Family, threshold: float) -> str:
    """Mean and standard deviation over seeds, a line for each setting."""

    def needed(run: Run) -> float:
        return float(run.report.required_sample_size(threshold).size)

    def gap(run: Run) -> float:
        return run.report.held_out.gap.value if run.report.held_out else float("nan")

    columns: list[tuple[str, str, Callable[[Run], float]]] = [
        ("training loss", ".3f", lambda run: run.report.loss),
        ("accuracy", ".3f", lambda run: run.train_accuracy),
        ("test accuracy", ".3f", lambda run: run.test_accuracy),
        ("S", ".2f", lambda run: run.report.spread.deviation.value),
        ("MAD", ".3f", lambda run: deviation_of(run.report)),
        ("difference at N", ".1e", lambda run: run.difference),
        ("difference / loss", ".1e", lambda run: run.difference / run.report.loss),
        (f"below {threshold:g} from", ",.0f", needed),
        ("held-out gap", ".3f", gap),
    ]
    lines = [f"{family.varied:>5} " + " ".join(f"{name:>20}" for name, _, _ in columns)]
    for index, setting in enumerate(family.settings):
        cells = []
        for _, style, value in columns:
            values = [value(run) for run in family.of(index)]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):{style}} +- {spread:{style}}")
        lines.append(f"{setting:>5} " + " ".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def verdicts(family: Family) -> str:
    """The tests of a claim, a line for each quantity."""
    lines = []
    for name, trend in family.trends().items():
        low, high = min(trend.correlations), max(trend.correlations)
        probability = max(trend.probability, 1e-4)
        sign = "<" if trend.probability < probability else "="
        lines.append(
            f"  {name:<34} rank correlation {trend.mean_correlation:+.2f} ({low:+.2f} to "
            f"{high:+.2f}), p {sign} {probability:.4f}: {trend.verdict}\n"
            f"  {'':<34} seeds that agree: {trend.steps}"
        )
    return "\n".join(lines)


def save(families: list[Family], out: Path) -> None:
    """Figures, and the numbers as JSON and as a table for spreadsheets."""
    for varied in ("width", "depth"):
        figure = family_figure([family for family in families if family.varied == varied])
        figure.savefig(out / f"{varied}.png", dpi=90)
    runs = {id(run): run for family in families for row in family.runs for run in row}
    records = [run.to_dict() for run in runs.values()]
    trends = [
        {"data": f.data, "varied": f.varied, "quantity": name, **asdict(t), "verdict": t.verdict}
        for f in families
        for name, t in f.trends().items()
    ]
    (out / "study.json").write_text(json.dumps({"runs": records, "trends": trends}))
    rows = [
        {key: value for key, value in record.items() if not isinstance(value, dict)}
        | numbers_of(run.report)
        for run, record in zip(runs.values(), records, strict=True)
    ]
    with (out / "study.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def numbers_of(report: LossDifferenceReport) -> dict[str, float]:
    """The loss and its spread over samples, for a line of a spreadsheet."""
    spread = report.spread
    return {
        "loss": report.loss,
        "variance": spread.variance.value,
        "mean_absolute_deviation": deviation_of(report),
        "gini_mean_difference": spread.gini_mean_difference,
    }


def main() -> None:
    """Train, print tables and verdicts, save figures and numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="*", default=[], help="folders with the files of MNIST")
    parser.add_argument("--out", type=Path, default=Path("runs/sample_size_study"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10_000, help="to train on")
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 3, 5, 7, 10])
    parser.add_argument("--seeds", type=int, default=3, help="number of them")
    parser.add_argument("--threshold", type=float, default=1e-5, help="of the difference")
    options = parser.parse_args()
    for pattern in (".*does not have many workers.*", ".*LeafSpec.*", ".*no `val_dataloader`.*"):
        warnings.filterwarnings("ignore", pattern)
    options.out.mkdir(parents=True, exist_ok=True)

    families = []
    for path in options.data or [None]:
        data = HeldOutMnist(path, num_samples=options.samples)
        data.setup("fit")
        name = "digits" if path is None else Path(path).resolve().name
        families += families_of(data, name, options)
    for family in families:
        count = family.runs[0][0].report.num_samples
        print(f"\n{family.data}, {count:,} training samples, mean +- spread over seeds")
        print(table(family, options.threshold))
        print(f"\n{QUESTIONS[family.varied]}\n{verdicts(family)}")
    save(families, options.out)
    print(f"\nsaved {options.out}/width.png, depth.png, study.json, study.csv")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()

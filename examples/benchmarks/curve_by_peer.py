"""The same curve by PyHessian, called by hand at the steps where the callback made its points.

Run it from the repository: ``python -m examples.benchmarks.curve_by_peer --data FOLDER``, with a
folder as in ``examples/data.py``. PyHessian says of no number how far the full training set may
be: who wants to be as sure of it measures the full set, here in one batch, whose graph it keeps,
at its default tolerances; ``--samples`` gives it a part instead, without any error bar. Prints the
sample gradients of both, and how far both are from the truth.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from examples.benchmarks.curve import course, truth
from examples.benchmarks.fits import FITS, Fit
from examples.benchmarks.with_pyhessian import counted_products
from lightning_hessian.studies.trade import price


def by_pyhessian(fit: Fit, state: dict[str, Tensor], part: tuple[Tensor, ...]) -> tuple[float, int]:
    """The largest eigenvalue and the products for it and the trace, at the defaults."""
    from pyhessian import hessian  # an optional peer

    module = fit.module()
    module.load_state_dict(state)
    torch.manual_seed(0)
    with counted_products() as count:
        theirs = hessian(module.network, F.cross_entropy, data=part, cuda=False)
        values, _ = theirs.eigenvalues(top_n=1)
        theirs.trace()
    return float(values[0]), count[0]


def main() -> None:
    """Train once, then measure the points again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--fit", default="MLP")
    parser.add_argument("--samples", type=int, help="for the peer; all by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    fit = next(fit for fit in FITS if fit.name == options.fit)
    data = fit.data(options.data)
    count = options.samples or len(data)  # type: ignore[arg-type]
    part = data[:count]  # type: ignore[index]
    found = course(fit, options.data, options.seed)
    ours, theirs, spent = [], [], 0.0
    for report, state in zip(found.reports[1:], found.states[1:], strict=True):
        largest, _ = truth(fit, data, state)
        value, products = by_pyhessian(fit, state, part)
        ours.append(float(report.largest.values[0]) / largest - 1)
        theirs.append(value / largest - 1)
        spent += price(count, products)
    cost = sum(report.cost for report in found.reports)
    print("| | sample gradients | rms error of the largest |\n|---|---|---|")
    for name, errors, gradients in (("callback", ours, cost), ("PyHessian", theirs, spent)):
        rms = statistics.mean(e**2 for e in errors) ** 0.5
        print(f"| {name} | {gradients:,.0f} | {rms:.2f} |")
    print(f"{spent / cost:.0f} times")


if __name__ == "__main__":
    main()

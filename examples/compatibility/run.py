"""One package in its environment: ``python -m examples.compatibility.run with_timm --out FILE``.

The module is trained three times from the same seed: twice without callbacks, which says whether
the training repeats itself at all, and once with :class:`~lightning_hessian.HessianSpectrum` and
:class:`~lightning_hessian.LossDifference`. Then the last report is compared with the dense Hessian.
"""

from __future__ import annotations

import argparse
import importlib
import math
import random
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from examples.compatibility.case import Case
from examples.compatibility.outcome import Outcome
from examples.compatibility.packages import PACKAGES
from examples.compatibility.truth import truth_of
from lightning_hessian import HessianSpectrum, Krylov, LossDifference, SpectrumReport

C = TypeVar("C")
MOST_PRODUCTS = 400
"""Of one measurement: more than most of these networks have parameters."""


def trained(case: Case, callbacks: list[Any]) -> tuple[Any, dict[str, Any]]:
    """A module trained from the seed, and every bit by which two trainings may differ."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    module = case.train(callbacks)
    trainer = getattr(module, "_trainer", None)
    metrics = {} if trainer is None else {**trainer.callback_metrics, **trainer.logged_metrics}
    bits = {name: each.detach().clone() for name, each in module.state_dict().items()
            if isinstance(each, Tensor)}  # fmt: skip
    bits["random numbers"] = torch.get_rng_state()
    return module, {**bits, **{f"metric {name}": value for name, value in metrics.items()}}


def are_identical(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all bits are the same; a NaN is itself."""
    if one.keys() != other.keys():
        return False
    pairs = ((torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)
    return all(a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
               for a, b in pairs)  # fmt: skip


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().numpy().tobytes()


def measured(report: SpectrumReport) -> tuple[dict[str, float], dict[str, float]]:
    """Loss, extreme eigenvalues and trace of a report, and their errors."""
    values, errors = {"loss": report.loss}, {}
    for tag, eigenvalues in (("eig_1", report.largest), ("eig_min", report.smallest)):
        if len(eigenvalues.values):
            values[tag] = float(eigenvalues.values[0])
            errors[tag] = float(eigenvalues.residual_bounds[0])
    if report.trace is not None:
        values["trace"] = report.trace.value
        errors["trace"] = report.trace.standard_error
    return values, errors


def in_use(module: Any, callback: C) -> C:
    """A callback, or the copy that a package has made of it for its own Trainer."""
    trainer = getattr(module, "_trainer", None)
    # a package that forgets its Trainer keeps what it made it with
    kept = getattr(module, "trainer_kwargs", {}).get("callbacks", [])
    known = kept if trainer is None else trainer.callbacks
    return next((each for each in known if type(each) is type(callback)), callback)


def compare(program: str) -> Outcome:
    """Train three times, and look."""
    case: Case = importlib.import_module(f"examples.compatibility.{program}").CASE
    names = (PACKAGES[program].name, "torch", "lightning")
    _, first = trained(case, [])
    _, second = trained(case, [])
    spectrum = HessianSpectrum(
        **{
            "num_samples": "all",
            "max_overhead": None,
            "solver": Krylov(max_hvps=MOST_PRODUCTS),
            **case.options,
        }
    )
    difference = LossDifference(num_samples="all", max_overhead=None)
    module, with_callbacks = trained(case, [spectrum, difference])
    spectrum, difference = in_use(module, spectrum), in_use(module, difference)
    report = spectrum.reports[-1]
    values, errors = measured(report)
    truth = None if case.loss is None or report.failure else truth_of(case.loss, module)
    deviation = difference.reports[-1].spread.deviation
    return Outcome(
        program=program,
        title=case.title,
        versions={name: version(name) for name in names},
        num_parameters=report.num_parameters,
        is_repeatable=are_identical(first, second),
        is_identical=are_identical(first, with_callbacks),
        values={name: value for name, value in values.items() if math.isfinite(value)},
        errors=errors,
        method=report.products.method,
        notes=[str(note) for note in report.notes],
        failure=report.failure,
        loss_difference=difference.reports[-1].failure or f"{deviation.value:.4g}",
        truth={} if truth is None else asdict(truth),
    )


def main() -> None:
    """Write what came of one program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    outcome = compare(options.program)
    outcome.write(options.out)
    print(outcome, file=sys.stderr)


if __name__ == "__main__":
    main()

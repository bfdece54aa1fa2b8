"""Options in words: equal for equal options, in every process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import Krylov, Loss, PyHessian
from lightning_hessian.fit import settings_text
from lightning_hessian.options import LossSetup, SpectrumOptions
from tests.helpers.fitting import loader

ROOT = Path(__file__).parents[2]


def tokens(batch: Any) -> float:
    return float(len(batch))


def scaled(batch: Any, factor: float = 1.0) -> float:
    return factor * len(batch)


class Counter:
    """Weighs by a method, or by being called."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def weigh(self, batch: Any) -> float:
        return self.factor * len(batch)

    def __call__(self, batch: Any) -> float:
        return self.factor * len(batch)


class Batches:
    """Iterable, and nothing else."""

    def __iter__(self) -> Iterator[Any]:
        return iter([])


MAKES: dict[str, Callable[[], Any]] = {
    "function": lambda: tokens,
    "lambda": lambda: lambda batch: len(batch),
    "partial": lambda: partial(scaled, factor=2.0),
    "method": lambda: Counter().weigh,
    "callable": lambda: Counter(),
    "class": lambda: Counter,
    "loader": lambda: loader(),
    "iterable": lambda: Batches(),
    "numbers": lambda: [1, 2.5, True, None, "text"],
    "set": lambda: {"b", "a", "c"},
    "mapping": lambda: {"a": tokens, "b": [Counter()]},
    "loss": lambda: Loss(weight_fn=tokens, dataloader=loader(), parameters=["a.*"]),
    "setup": lambda: LossSetup(loss=Loss(weight_fn=partial(scaled, factor=2.0)), seed=3),
    "spectrum": lambda: SpectrumOptions(solver=PyHessian(trace_tol=0.5)),
}


def texts() -> dict[str, str]:
    """Of values made anew."""
    return {name: settings_text(make()) for name, make in MAKES.items()}


def test_equal_options_are_told_alike_without_an_address() -> None:
    first, again = texts(), texts()
    assert first == again
    for text in first.values():
        assert not re.search(r"0x[0-9a-f]+|\bobject at\b", text)


@pytest.mark.slow
def test_equal_options_are_told_alike_in_another_process() -> None:
    # other hashes of texts, and other addresses
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    code = (
        "import json; from tests.callbacks.test_settings import texts; print(json.dumps(texts()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == texts()


def test_the_text_names_functions_classes_and_values() -> None:
    here = __name__
    assert settings_text(tokens) == f"{here}.tokens"
    assert settings_text(Counter().weigh) == f"{here}.Counter.weigh"
    assert settings_text(Counter()) == f"{here}.Counter"
    assert settings_text(partial(scaled, factor=2.0)) == (
        f"partial({here}.scaled, [], {{'factor': 2.0}})"
    )
    data = "torch.utils.data.dataset.TensorDataset of 26"
    assert settings_text(loader(batch_size=5)) == (
        f"torch.utils.data.dataloader.DataLoader({data}, 5)"
    )
    assert settings_text(Krylov(max_hvps=9)).startswith(
        "lightning_hessian.options.solver.Krylov(rtol=0.01, "
    )
    assert ", max_hvps=9, " in settings_text(Krylov(max_hvps=9))


def rows(count: int) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.zeros(count, 1)), batch_size=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Krylov(), Krylov(rtol=0.1)),
        (Krylov(), PyHessian()),
        (Loss(), Loss(which=0)),
        (Loss(which="1"), Loss(which=1)),
        (Loss(weight_fn=tokens), Loss(weight_fn=scaled)),
        (Loss(weight_fn=Counter().weigh), Loss(weight_fn=Counter())),
        (partial(scaled, factor=1.0), partial(scaled, factor=2.0)),
        (rows(4), rows(6)),
        (LossSetup(), LossSetup(mode="train")),
        (LossSetup(), replace(LossSetup(), loss=Loss(precision=64))),
        ([1, 2], [2, 1]),
    ],
)
def test_other_options_are_told_otherwise(one: Any, other: Any) -> None:
    assert settings_text(one) != settings_text(other)

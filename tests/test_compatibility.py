"""The table of real packages: what its lines say, and that each program says what it is to say.

The programs themselves need packages that are not installed here.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from examples.compatibility.outcome import Outcome
from examples.compatibility.packages import PACKAGES
from examples.compatibility.run import are_identical
from examples.compatibility.table import agrees, page
from examples.compatibility.truth import truth_of

FOLDER = Path(__file__).parent.parent / "examples" / "compatibility"
GOOD = Outcome(
    program="with_lib",
    title="a network",
    versions={"lib": "1.2", "torch": "2.13.0"},
    num_parameters=3,
    is_repeatable=True,
    is_identical=True,
    values={"loss": 1.0, "eig_1": 2.0, "eig_min": -1.0, "trace": 1.5},
    errors={"eig_1": 1e-6, "eig_min": 1e-6, "trace": 0.1},
    method="exact",
    loss_difference="0.25",
    truth={"loss": 1.0, "eig_1": 2.0, "eig_min": -1.0, "trace": 1.2},
)


def cells(outcome: Outcome) -> list[str]:
    """Of the table's only line."""
    (line,) = (line for line in page([outcome]).splitlines() if line.startswith("| lib"))
    return line.strip("| ").split(" | ")


def test_each_package_has_a_program_that_ends_in_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("with_*.py")} == set(PACKAGES)
    for program in PACKAGES:
        last = ast.parse((FOLDER / f"{program}.py").read_text(encoding="utf8")).body[-1]
        assert isinstance(last, ast.Assign)
        assert isinstance(last.targets[0], ast.Name)
        assert last.targets[0].id == "CASE", program


def test_a_line_says_what_was_measured_and_that_it_is_the_truth() -> None:
    first, *others = cells(GOOD)
    assert first == "lib 1.2"
    assert others == ["a network; 3 parameters", "yes", "2 ± 1e-06", "1.5 ± 0.1",
                      "2, 1.2: agrees", "0.25"]  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "off"), [("loss", 1e-3), ("eig_1", 1e-3), ("eig_min", 1e-3), ("trace", 0.41)]
)
def test_a_number_beyond_its_error_differs(tag: str, off: float) -> None:
    wrong = replace(GOOD, values={**GOOD.values, tag: GOOD.truth[tag] + off})
    assert agrees(GOOD)
    assert agrees(wrong) is False
    assert "**differs**" in page([wrong])


def test_a_run_that_changed_and_one_that_never_repeats_itself_are_told_apart() -> None:
    assert cells(replace(GOOD, is_identical=False))[2] == "**no**"
    assert cells(replace(GOOD, is_repeatable=False))[2] == "the training does not repeat itself"


def test_reasons_stand_in_the_line_and_whole_below() -> None:
    refused = "RefusedError: batches cannot be cut: so it is. Do that."
    text = page([replace(GOOD, loss_difference=refused, failure="ValueError: no. Never.")])
    assert "| refused: no |" in text
    assert f"**lib**: {refused}" in text
    ended = replace(GOOD, error="ImportError: gone")
    assert "the program ended: gone" in page([ended])


def test_outcomes_are_read_as_they_were_written(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "it.json")
    assert Outcome.read(tmp_path / "it.json") == GOOD


def test_the_truth_is_the_closed_form_of_least_squares() -> None:
    """The Hessian of a mean of squares is ``2 / N X^T X``, whatever the weights."""
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).double()
    network = nn.Linear(3, 1, bias=False)

    def loss(module: nn.Linear) -> Tensor:
        return module(rows).square().mean()

    truth = truth_of(loss, network)
    expected = torch.linalg.eigvalsh(2 / 7 * rows.T @ rows)
    assert truth is not None
    # of differences with steps of 1e-5 in float64
    assert truth.eig_1 == pytest.approx(float(expected[-1]), rel=1e-8)
    assert truth.eig_min == pytest.approx(float(expected[0]), rel=1e-8)
    assert truth.trace == pytest.approx(float(expected.sum()), rel=1e-8)


def test_no_dense_hessian_of_a_large_network() -> None:
    assert truth_of(lambda module: module.weight.sum(), nn.Linear(51, 50)) is None


def test_one_bit_is_a_difference_and_a_nan_is_itself() -> None:
    bits = {"weight": torch.tensor([1.0, float("nan")]), "metric": 2.0}
    assert are_identical(bits, dict(bits))
    assert not are_identical(bits, {**bits, "weight": torch.tensor([1.0 + 2**-23, float("nan")])})
    assert not are_identical(bits, {"weight": bits["weight"]})

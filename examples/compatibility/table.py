"""Outcomes as the page ``docs/works_with.md``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from examples.compatibility.outcome import Outcome

PAGE = Path(__file__).parent.parent.parent / "docs" / "works_with.md"
COLUMNS = ("package", "what is trained", "same bits", "largest eigenvalue", "trace", "truth",
           "loss difference")  # fmt: skip
ROUNDING = 2e-5
"""Of sums in float32, relative to the largest eigenvalue by magnitude."""
STANDARD_ERRORS = 4
"""How far from the truth a trace may be."""
HEAD = """# Works with

Modules of real packages, each installed into an environment of its own and trained three times
from the same seed: twice without callbacks, once with `HessianSpectrum` and `LossDifference`.
`python -m examples.compatibility` makes the environments, runs the programs in
`examples/compatibility/`, a short one for each package, and writes this page.

- **same bits**: weights, buffers, logged metrics and the state of torch's random numbers at the end
  of training, with the callbacks and without.
- **truth**: largest eigenvalue and trace of the dense Hessian, by differences of float64 gradients
  of a loss that is written out in the program without this library. "agrees" means that loss,
  largest and smallest eigenvalue are within the error given (the trace within four standard
  errors), and float32 rounding.
- **loss difference**: the standard deviation of the losses of single samples, or why it is refused.
"""


def page(outcomes: Sequence[Outcome]) -> str:
    """The whole page.

    Args:
        outcomes: A line each.

    Returns:
        Markdown.
    """
    lines = [_row(*COLUMNS), f"|{'---|' * len(COLUMNS)}"]
    lines += [_row(*_cells(each)) for each in outcomes]
    notes = [f"**{_name(each)}**: {note}" for each in outcomes for note in _said(each)]
    said = ["", "## What the reports said"] if notes else []
    said += [line for note in notes for line in ("", note)]
    return "\n".join([HEAD, *lines, *said, ""])


def agrees(outcome: Outcome) -> bool | None:
    """Whether all numbers are the dense Hessian's within their errors; None where there is none."""
    if not outcome.truth or not outcome.values:
        return None
    rounding = ROUNDING * max(abs(outcome.truth["eig_1"]), abs(outcome.truth["eig_min"]))
    for tag, value in outcome.values.items():
        error = outcome.errors.get(tag, ROUNDING * abs(value))
        allowed = error * (STANDARD_ERRORS if tag == "trace" else 1) + rounding
        if abs(value - outcome.truth[tag]) > allowed:
            return False
    return True


def _cells(outcome: Outcome) -> tuple[str, ...]:
    name = f"{_name(outcome)} {outcome.versions.get(_name(outcome), '')}".strip()
    if outcome.error is not None:
        return name, outcome.title, "", f"the program ended: {_plain(outcome.error)}", "", "", ""
    if not outcome.is_repeatable:
        same = "the training does not repeat itself"
    else:
        same = "yes" if outcome.is_identical else "**no**"
    difference = _plain(outcome.loss_difference)
    title = f"{outcome.title}; {outcome.num_parameters:,} parameters"
    if outcome.failure is not None:
        return name, outcome.title, same, f"refused: {_plain(outcome.failure)}", "", "", difference
    return (name, title, same, _number(outcome, "eig_1"), _number(outcome, "trace"),
            _truth(outcome), difference)  # fmt: skip


def _truth(outcome: Outcome) -> str:
    found = agrees(outcome)
    if found is None:
        return ""
    numbers = f"{outcome.truth['eig_1']:.5g}, {outcome.truth['trace']:.5g}"
    return f"{numbers}: {'agrees' if found else '**differs**'}"


def _number(outcome: Outcome, tag: str) -> str:
    if tag not in outcome.values:
        return ""
    return f"{outcome.values[tag]:.5g} ± {outcome.errors[tag]:.1g}"


def _said(outcome: Outcome) -> list[str]:
    # refusals that a cell has no room for stand here whole
    refused = [outcome.loss_difference] if "Error" in outcome.loss_difference else []
    return [*outcome.notes, *refused]


def _name(outcome: Outcome) -> str:
    return next(iter(outcome.versions), outcome.program.removeprefix("with_").replace("_", "-"))


def _plain(text: str) -> str:
    """The first clause, fit for a cell."""
    reason = re.sub(r"^\w+Error: ", "", text)
    first = reason.partition(". ")[0].partition(": ")[0]
    return first.replace("|", "\\|").replace("\n", " ")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

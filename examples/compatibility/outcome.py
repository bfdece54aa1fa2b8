"""What came of one package: a line of the table, and JSON between two processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One program's results.

    Attributes:
        program: Its name.
        title: What it trained.
        versions: Of the package, of torch and Lightning, by name.
        num_parameters: That the Hessian is of.
        is_repeatable: Two trainings without callbacks end with the same bits.
        is_identical: A training with the callbacks does too: weights, buffers, logged metrics and
            the state of torch's random numbers.
        values: Measured at the end of training, by tag, with their errors.
        errors: Of ``values``, where they have one.
        method: How products were made.
        notes: Of the last report.
        failure: Why there are no numbers.
        loss_difference: The deviation of the losses of samples, or why it was refused.
        truth: As ``values``, from the dense Hessian; empty where there is none.
        error: The last line of what ended the program, if anything did.
    """

    program: str
    title: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    num_parameters: int = 0
    is_repeatable: bool = False
    is_identical: bool = False
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    method: str = ""
    notes: list[str] = field(default_factory=list)
    failure: str | None = None
    loss_difference: str = ""
    truth: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf8")

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """What :meth:`write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf8")))

"""What a study is: options in, a report out, and no Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import Report

R = TypeVar("R", bound=Report)


def tell_nobody(number: float) -> None:
    """What is told of costs where nobody listens."""


class Study(Protocol[R]):
    """A question about the training loss at given weights.

    It holds its options and nothing of a run, but what it remembers from one report to the next.
    """

    @property
    def record(self) -> type[R]:
        """The kind of report that it makes."""

    fewest_samples: ClassVar[int]
    """Down to which a plan gives up samples for more points."""

    def sample_size(self, allowance: float) -> int:
        """On how many samples a report of so many sample gradients is best made."""

    def least_price(self, num_samples: int, *, is_first: bool = False) -> float:
        """Sample gradients of a report that says something, and of the first one of a fit."""

    def setup_price(self, num_samples: int) -> float:
        """Sample gradients of what is looked at once in a fit, beside its reports."""

    def fair_price(self, num_samples: int) -> float:
        """Sample gradients of a report whose interval has both its ends."""

    def usual_price(self, num_samples: int) -> float:
        """Sample gradients of a report from which a curve can be read well."""

    def describe(self, num_samples: int, allowance: float) -> str:
        """What such a report is made with, in words that follow a number of samples."""

    def max_hvps(
        self, loss: TrainingLoss, allowance: float | None = None, *, is_trial: bool = False
    ) -> int:
        """Bound on the Hessian-vector products of one measurement, for a progress bar.

        Args:
            loss: What is measured.
            allowance: Sample gradients that it may cost; None for no limit.
            is_trial: Whether only a trial is made, of few products.

        Returns:
            The bound; 0 where the products are not what takes the time.
        """

    def measure(
        self,
        loss: TrainingLoss | Conductor,
        *,
        allowance: float | None = None,
        has_products: bool = True,
        on_gradient: Callable[[float], None] = tell_nobody,
        on_products: Callable[[int], None] = tell_nobody,
        is_trial: bool = False,
    ) -> R:
        """Measure at the present parameters, on the first process only.

        Args:
            loss: Inside its sandbox.
            allowance: Sample gradients that it may cost; None for no limit.
            has_products: Whether the loss can be differentiated.
            on_gradient: Told the seconds that one gradient took, before what takes longer.
            on_products: Told the number of products after each block.
            is_trial: Whether only a trial is made, of few products.

        Returns:
            The numbers, and what they are of; when and at which price is the caller's to fill in.
        """

    def required_samples(self, report: R) -> int:
        """How many samples a report just made should have been on; asked on all processes.

        Args:
            report: Of :meth:`measure`.

        Returns:
            Its own number where that is enough.
        """

    def settle(self) -> None:
        """The report measured last has been recorded: the next one may be compared with it."""

    def state(self) -> dict[str, Any]:
        """What it remembers from one report to the next, for a checkpoint."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remember what a checkpoint holds of an earlier part of the fit."""

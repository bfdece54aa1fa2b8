"""What a study is: options in, a report out, and no Trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

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

    @property
    def expected_gradients(self) -> float:
        """About what a measurement costs, in gradients over the samples."""

    def max_hvps(self, size: int, *, is_trial: bool = False) -> int:
        """Bound on the Hessian-vector products of one measurement, for a progress bar.

        Args:
            size: Number of parameters.
            is_trial: Whether only a trial is made, of few products.

        Returns:
            The bound; 0 where the products are not what takes the time.
        """

    def measure(
        self,
        loss: TrainingLoss | Conductor,
        *,
        has_products: bool = True,
        on_gradient: Callable[[float], None] = tell_nobody,
        on_products: Callable[[int], None] = tell_nobody,
        is_trial: bool = False,
    ) -> R:
        """Measure at the present parameters, on the first process only.

        Args:
            loss: Inside its sandbox.
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

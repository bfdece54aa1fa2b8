"""How much of a fit's time a callback may take, and how much it has taken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from typing_extensions import Self


class OverheadBudget:
    """The account of one callback over one fit, by a clock.

    The share is ``spent / trained``: the seconds inside the callback, over those since the fit
    began in which neither it nor one of its peers was at work. A measurement is affordable if it
    and one more, at the end of the fit, stay below the limit: ``spent + 2 cost <= limit *
    trained``. So a fit in which one was made because it was affordable ends below the limit, as
    far as costs are foreseen. The cost foreseen is that of the dearer of the last two measurements:
    the first one of a fit takes longer.

    Time is counted inside ``with budget:``, which may be nested; outside a fit none is.
    """

    def __init__(
        self, max_overhead: float | None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        is_number = isinstance(max_overhead, int | float) and not isinstance(max_overhead, bool)
        if max_overhead is not None and not (is_number and 0 < max_overhead < 1):
            raise ValueError(
                "`max_overhead` must be a number between 0 and 1, the share of the training's time "
                f"that measuring may take, got {max_overhead!r}. Give 0.05 for 5 %, or None for no "
                "limit."
            )
        self.max_overhead = max_overhead
        self._clock = clock
        self.end()

    def end(self) -> None:
        """Close the account and forget it."""
        self._begun: float | None = None
        self._entered = 0.0
        self._depth = 0
        self._peers: tuple[OverheadBudget, ...] = ()
        self._spent_by_peers = 0.0
        self._spent = 0.0
        self._costs: list[float] = []
        self._num_due = self._num_made = self._num_told = 0
        self._due_at = self._made_at = -1
        self.num_batches = 0

    def begin(self, peers: Sequence[OverheadBudget] = ()) -> None:
        """Open the account of a fit; the time of other callbacks is not training either."""
        self.end()
        self._peers = tuple(peers)
        self._spent_by_peers = sum(peer.spent for peer in peers)
        self._begun = self._entered = self._clock()

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1:
            self._entered = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._begun is not None:
            self._spent += self._clock() - self._entered

    @property
    def spent(self) -> float:
        """Seconds inside the callback, up to now."""
        if self._begun is None:
            return 0.0
        return self._spent + (self._clock() - self._entered if self._depth else 0.0)

    @property
    def trained(self) -> float:
        """Seconds of the fit that neither this callback nor its peers took."""
        if self._begun is None:
            return 0.0
        spent_by_peers = sum(peer.spent for peer in self._peers) - self._spent_by_peers
        return max(0.0, self._clock() - self._begun - self.spent - spent_by_peers)

    @property
    def share(self) -> float:
        """Seconds spent over seconds trained; ``nan`` before the first batch of training."""
        trained = self.trained
        return self.spent / trained if self.num_batches and trained > 0 else math.nan

    def allows(self, predict: Callable[[], float]) -> bool:
        """Whether a measurement now and one at the end of the fit stay below the limit.

        ``predict`` gives the seconds of a measurement, for as long as none has been made.
        """
        cost = max(self._costs[-2:]) if self._costs else predict()
        return self.can_pay(self.spent + 2 * cost, self.trained)

    def can_pay(self, price: float, training: float) -> bool:
        """Whether a price is within the limit for a training, both in one unit of time."""
        return self.max_overhead is None or price <= self.max_overhead * training

    def count_due(self, global_step: int) -> None:
        """A measurement is due; twice at one step counts once."""
        if global_step != self._due_at:
            self._due_at = global_step
            self._num_due += 1

    def count_made(self, global_step: int) -> None:
        """A measurement was made, whether it was due or not."""
        self.count_due(global_step)
        if global_step != self._made_at:
            self._made_at = global_step
            self._num_made += 1

    def remember_cost(self, seconds: float) -> None:
        """Foresee the next one's cost from one that did not fail; it may end early."""
        self._costs.append(seconds)

    def count_skipped(self) -> int:
        """Steps at which a measurement was due and none was made, since this was last asked."""
        before, self._num_told = self._num_told, self._num_due - self._num_made
        return self._num_told - before

    def summary(self) -> str:
        """What the fit was spent on, and which option changes it."""
        spent, trained, share = self.spent, self.trained, self.share
        text = (
            f"training took {trained:.3g} s and measuring {spent:.3g} s, {share:.1%} of that; "
            f"{self._num_made} of {self._num_due} due measurements were made."
        )
        if self.max_overhead is None:
            return text
        if self._num_made < self._num_due:
            text += (
                f" The others were left out for `max_overhead={self.max_overhead:g}`: raise it for "
                "more of them, or give None for all."
            )
        if share > self.max_overhead:
            text += (
                f" That is more than `max_overhead={self.max_overhead:g}`, as the end of a fit and "
                "checkpoints are measured whatever it costs; fewer `num_samples` cost less."
            )
        return text

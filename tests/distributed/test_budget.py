"""Whether a measurement is affordable is decided by the first process's clock, for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_hessian.fit import OverheadBudget
from tests.distributed.test_equality import spectrum
from tests.helpers.fitting import Classifier, loader
from tests.helpers.processes import ddp_trainer, in_processes


class Opposed(OverheadBudget):
    """Allows every second one, and on the other process just the other ones."""

    rank = asked = 0

    def allows(self, predict: Callable[[], float]) -> bool:
        self.asked += 1
        return self.asked % 2 == self.rank


def test_all_processes_go_by_the_first_ones_clock() -> None:
    def part(rank: int) -> Any:
        callback = spectrum(every_n_train_steps=1, max_overhead=0.5)
        callback._pace.budget = Opposed(0.5)
        callback._pace.budget.rank = rank
        ddp_trainer(callback, max_epochs=3).fit(Classifier(), loader())
        return [report.to_dict() for report in callback.reports]

    first, second = in_processes(part, seconds=40)
    # asked at steps 1 to 6, after the start was left out; the end is measured in any case
    assert [report["global_step"] for report in first] == [2, 4, 6]
    assert [report["num_skipped"] for report in first] == [2, 1, 1]
    assert repr(first) == repr(second)

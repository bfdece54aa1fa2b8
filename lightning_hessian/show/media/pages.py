"""The page of a training, for those loggers that take one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.records import Report
from lightning_hessian.show.media.takers import give_each, raise_first, takers
from lightning_hessian.show.tab_entry import tab_run
from lightning_hessian.tab import page_html


@rank_zero_only
def give_page(loggers: Sequence[Logger], reports: Mapping[str, Sequence[Report]]) -> None:
    """Give the page of the Hessian tab to each logger that takes one; on the first process only.

    Args:
        loggers: The Trainer's.
        reports: By the names of callbacks, of each at least one; the page has the first's name.
    """
    if not any(takers(loggers)):
        return
    name = next(iter(reports))
    page = page_html([tab_run("this training", reports)], title=f"Hessian: {', '.join(reports)}")
    step = max(each[-1].step for each in reports.values())
    failed = give_each(loggers, lambda taker: taker.take_page(page, name=name, step=step))
    raise_first(failed, "took no page of the reports")

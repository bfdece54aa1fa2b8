"""What a fit's budget buys: on how many samples, at which batches, for how much each time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lightning_hessian.fit.length import FitLength
from lightning_hessian.fit.schedule import Schedule

FLOOR = 20_000
"""Sample gradients that even a short fit may be asked for; but never more than half of it."""
HALF = 0.5
NUM_POINTS, FEWEST_POINTS = 10, 8
END_WEIGHT = 3.0
"""The end of a fit is worth as much as three other points, where these have what they need."""
ASSUMED = 100_000
"""Samples that a fit without a known end is taken to train on."""
GROWTH = 1.3
"""Least ratio of the batches behind two points of such a fit, so that there are ever fewer."""


class Buyer(Protocol):
    """What a plan asks of a study; all in sample gradients."""

    fewest_samples: ClassVar[int]
    """Down to which samples are given up for points: few points say less than longer bars."""

    def sample_size(self, allowance: float) -> int:
        """On how many samples a report of this price is best made."""
        ...

    def least_price(self, num_samples: int, *, is_first: bool = False) -> float:
        """Of a report that says something, and of one without any before it."""
        ...

    def setup_price(self, num_samples: int) -> float:
        """Of what is looked at once in a fit, beside its reports."""
        ...

    def fair_price(self, num_samples: int) -> float:
        """Of a report whose interval has both its ends."""
        ...

    def usual_price(self, num_samples: int) -> float:
        """Of a report from which a curve can be read well."""
        ...

    def describe(self, num_samples: int, allowance: float) -> str:
        """What such a report is made with, in words that follow a number of samples."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of one fit.

    Attributes:
        num_samples: Of every report.
        num_points: Reports expected, the start and the end among them; of a very short training the
            end alone.
        places: Batches after which a report is due; None where a schedule of the user's says so.
        stride: Of the moments due by such a schedule every ``stride``-th is taken.
        share: Of the training's sample gradients that may be spent.
        has_end: Whether it is known how long the training is going to be.
        total: Sample gradients to spend; infinity where no end is known.
        end_weight: What the end of the fit gets, in shares of another point.
    """

    num_samples: int
    num_points: float
    places: tuple[int, ...] | None
    stride: int
    share: float
    has_end: bool
    total: float
    end_weight: float

    def earned(self, trained: float) -> float:
        """What so many sample gradients of training are worth."""
        return budget(self.share, trained)


def budget(share: float, trained: float) -> float:
    """Sample gradients that may be spent on a training of so many."""
    return max(share * trained, min(FLOOR, HALF * trained))


def make_plan(
    length: FitLength,
    share: float,
    schedule: Schedule,
    buyer: Buyer,
    wanted: Callable[[int, int | None], int],
) -> Plan:
    """Decide once, from sizes alone, so that it is the same in every run and process.

    Args:
        length: Of the fit.
        share: ``max_overhead``.
        schedule: What the user wants to be due.
        buyer: The study that spends.
        wanted: From the number of samples that the budget buys, and that of the training set, to
            the number which is taken: the user may have a wish.
    """
    total = budget(share, length.num_samples if length.has_end else _assumed(length))
    planned = schedule.is_planned
    points = NUM_POINTS if planned else _points(length, schedule)
    affordable = buyer.sample_size(total / (points - 1 + END_WEIGHT))
    if planned:
        affordable = _enough_for_a_curve(affordable, total, buyer)
    count = wanted(affordable, length.population)
    rest = _after_first(count, total, buyer)
    payable = max(1.0, 1 + rest // buyer.least_price(count))
    # a checkpoint's report is asked for by name, as small as it may be; of others fewer and better
    fair = payable if schedule.at_checkpoints else _fair_points(count, total, buyer)
    payable = max(fair, min(payable, 2))
    stride = 1
    places = None
    if planned:
        points = min(points, payable)
        if length.has_end:
            places = _places(length, int(points))
            points = len(places) + min(points, 2)
    elif points > payable:
        stride = math.ceil((points - 1) / max(payable - 1, 1))
        points = 1 + math.ceil((points - 1) / stride)
    is_rich = rest >= buyer.usual_price(count) * (points - 2 + END_WEIGHT)
    return Plan(
        num_samples=count,
        num_points=points,
        places=places,
        stride=stride,
        share=share,
        has_end=length.has_end,
        total=total if length.has_end else math.inf,
        end_weight=END_WEIGHT if is_rich else 1.0,
    )


def _after_first(num_samples: int, total: float, buyer: Buyer) -> float:
    """What the first report, which starts from nothing, and the set-up leave to all others."""
    first = buyer.least_price(num_samples, is_first=True)
    return total - first - buyer.setup_price(num_samples)


def _fair_points(num_samples: int, total: float, buyer: Buyer) -> float:
    """Points whose intervals have both ends, the first among them."""
    return 1 + _after_first(num_samples, total, buyer) // buyer.fair_price(num_samples)


def _enough_for_a_curve(affordable: int, total: float, buyer: Buyer) -> int:
    """So many samples that eight points can be paid for, where it would be fewer points else."""
    if _fair_points(affordable, total, buyer) >= FEWEST_POINTS:
        return affordable
    each = buyer.least_price(1, is_first=True) + buyer.setup_price(1)
    each += (FEWEST_POINTS - 1) * buyer.fair_price(1)
    # a little fewer, as groups are of whole samples
    return min(affordable, max(int(0.97 * total / each), buyer.fewest_samples))


def _assumed(length: FitLength) -> float:
    return min(length.num_samples, ASSUMED)


def _points(length: FitLength, schedule: Schedule) -> float:
    """Moments due by a schedule of the user's, with the start and the end."""
    batches = length.num_batches if math.isfinite(length.num_batches) else _batches_assumed(length)
    due = 0.0
    if schedule.every_n_train_steps is not None:
        due += batches / length.accumulation // schedule.every_n_train_steps
    if schedule.every_n_epochs is not None:
        due += batches / length.batches_per_epoch // schedule.every_n_epochs
    if schedule.at_checkpoints:
        due = max(due, length.num_checkpoints)
    return 1 + max(due, 1)


def _batches_assumed(length: FitLength) -> float:
    return ASSUMED / length.batch_size


def _places(length: FitLength, points: int) -> tuple[int, ...]:
    """The ends of the first intervals of a fit lie closer together than those of the last.

    ``b_j = B (j / J)^2``, one batch apart at least; the end itself is due anyway.
    """
    last, places = int(length.num_batches), []
    for j in range(1, points - 1):
        place = max(round(last * (j / (points - 1)) ** 2), j)
        if place < last:
            places.append(place)
    return tuple(dict.fromkeys(places))

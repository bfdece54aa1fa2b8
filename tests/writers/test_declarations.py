"""What a record's fields declare is all that is needed to log, draw, list and document them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from lightning_hessian import SpectrumReport
from lightning_hessian.records import (
    BatchSharpness,
    Column,
    EigenvectorOverlap,
    Estimate,
    HessianDifferences,
    Lines,
    MinibatchLines,
    ParameterBlock,
    ProductQuality,
    Report,
    StabilityMargin,
    derived,
    shown,
)
from lightning_hessian.show import charts, scalars, table, tag_rows, tag_table, tagged
from tests.helpers.critical_points import point_at
from tests.helpers.loss_difference_reports import (
    DERIVATIVES,
    HELD_OUT,
    difference_report,
    neighbourhood_at,
)
from tests.helpers.reports import eigenvalues_at, failed_at, report_at
from tests.writers.test_scalars import sampled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """Numbers of one layer, with a tensor and a key."""

    key: str
    gains: Tensor = field(metadata=shown("gain_{i}{}/{key}", doc="gain"))
    norm: Estimate = field(metadata=shown("norm{}/{key}", doc="norm of a layer", unit="m"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MyReport(Report):
    """A kind of report that the package does not know."""

    title: ClassVar[str] = "mine"

    size: Estimate | None = field(
        default=None,
        metadata=shown(
            "size",
            doc="how large",
            unit="m",
            chart=Lines("sizes"),
            columns=(Column("size", 12), Column("half", 6, "{:.1f}", of="half.value")),
        ),
    )
    layers: tuple[Layer, ...] = field(default=(), metadata=shown("", group="layers"))
    bound: tuple[float, float] = field(
        default=(math.nan, math.nan),
        metadata=shown("bound_low", "bound_high", doc="ends", when=lambda ends: ends[0] > 0),
    )
    silent: float = 7.0

    @derived(shown("double", doc="twice as large", chart=Lines("sizes")))
    def double(self) -> float:
        """Twice the size."""
        return math.nan if self.size is None else 2 * self.size.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Halved(Estimate):
    """An estimate that knows its half."""

    @property
    def half(self) -> Estimate:
        """Half of it."""
        return Estimate(value=self.value / 2)


def _mine(**changes: Any) -> MyReport:
    fields: dict[str, Any] = {
        "size": Halved(value=3.0, standard_error=0.25),
        "layers": (
            Layer(key="a", gains=torch.tensor([1.0, 2.0]), norm=Estimate(value=4.0)),
            Layer(key="b", gains=torch.ones(1), norm=Estimate(value=5.0, standard_error=0.5)),
        ),
        "bound": (1.0, 2.0),
    }
    return MyReport(**(fields | changes))


def _own(report: MyReport) -> dict[str, float]:
    others = ("failed", "num_hvps", "qualified")
    return {tag: value for tag, value in scalars(report).items() if tag not in others}


def test_numbers_tensors_records_and_several_of_them_have_the_tags_declared() -> None:
    assert _own(_mine()) == {
        "size": 3.0,
        "size_standard_error": 0.25,
        "gain_1/a": 1.0,
        "gain_2/a": 2.0,
        "norm/a": 4.0,
        "gain_1/b": 1.0,
        "norm/b": 5.0,
        "norm_standard_error/b": 0.5,
        "bound_low": 1.0,
        "bound_high": 2.0,
        "double": 6.0,
        "num_skipped": 0.0,
    }


def test_what_is_missing_or_not_to_be_shown_is_left_out() -> None:
    assert _own(_mine(size=None, layers=(), bound=(-1.0, 1.0))) == {"num_skipped": 0.0}
    assert scalars(_mine(failure="no")) == {"failed": 1.0, "num_skipped": 0.0}


def test_charts_are_of_values_alone_and_drawn_together_by_their_title() -> None:
    assert charts(_mine(), prefix="p") == {"sizes": ["Multiline", ["p/size$", "p/double$"]]}
    assert charts(_mine(size=None), prefix="p") == {}


def test_a_table_has_the_columns_declared_in_their_places() -> None:
    heading, line = table(MyReport, [_mine(seconds=2.0, loss=0.5, global_step=3)]).splitlines()
    assert heading.split() == ["step", "loss", "size", "half", "seconds"]
    assert line.split() == ["3", "0.5000", "3.00", "+-", "0.2", "1.5", "2.00"]
    assert table(MyReport, []) == heading


def test_rows_say_tags_errors_sentence_and_unit() -> None:
    rows = {row.tags: row for row in tag_rows(MyReport)}
    assert rows["size",].errors == ((("size_standard_error",), "standard error"),)
    assert (rows["size",].doc, rows["size",].unit) == ("how large", "m")
    assert rows["norm/<key>",].errors == ((("norm_standard_error/<key>",), "standard error"),)
    assert rows["gain_<i>/<key>",].doc == "gain"
    assert rows["bound_low", "bound_high"].doc == "ends"
    # its own before what every report has
    assert [row.tags[0] for row in tag_rows(MyReport)][:2] == ["size", "gain_<i>/<key>"]
    assert (
        "| **`p/size`** | how large | `p_errors/size_standard_error`: standard error | m |"
        in tag_table(MyReport, prefix="p")
    )


FULL_SPECTRUM = report_at(
    cost=5_000.0,
    frobenius_norm=Estimate(value=6.0, standard_error=0.25),
    sampling=sampled(),
    products=ProductQuality(method="finite_difference", error=0.25),
    blocks=(
        ParameterBlock(
            name="network.0",
            trace=Estimate(value=5.0, standard_error=0.5),
            largest=eigenvalues_at([3.0], [0.25]),
        ),
    ),
    overlap=EigenvectorOverlap(
        cosines=torch.tensor([0.75, 0.5]), partners=torch.tensor([0.0, 1.0]), subspace=0.5
    ),
    edge=StabilityMargin(
        sharpness=1.5, bound=0.25, threshold=2.0, largest_eigenvalue=20.0, optimizer="SGD"
    ),
    batch_sharpness=BatchSharpness(
        mean_of_ratios=Estimate(value=12.0, standard_error=0.5),
        ratio_of_means=Estimate(value=14.0, standard_error=0.75),
        lines=MinibatchLines(small=2.0, large=38.0, optimizer="SGD"),
        num_steps=16,
        step_size=32,
        cost=1536.0,
    ),
)
FULL_DIFFERENCE = difference_report(
    cost=5_000.0,
    thresholds=(0.1, 1e-5),
    held_out=HELD_OUT,
    neighbourhood=(neighbourhood_at(0.1), neighbourhood_at(1e-5, dimensions=3)),
    hessian_differences=HessianDifferences(
        samples=torch.tensor([3, 1]),
        norms=torch.tensor([1.0, 2.0]),
        residual_bounds=torch.tensor([0.1, 0.2]),
    ),
    **DERIVATIVES,
)
FULL = [FULL_SPECTRUM, FULL_DIFFERENCE, point_at(products=FULL_SPECTRUM.products)]


@pytest.mark.parametrize("report", FULL, ids=lambda report: type(report).__name__)
def test_every_tag_of_a_full_report_has_one_row_and_every_row_a_tag(report: Report) -> None:
    rows, tags = tag_rows(type(report)), scalars(report)
    for tag in tags:
        assert any(row.names(tag) for row in rows), tag
    for row in rows:
        if row.kind == "scalars":
            assert any(row.names(tag) for tag in tags), row


@pytest.mark.parametrize("report", FULL, ids=lambda report: type(report).__name__)
def test_every_row_has_a_sentence_and_every_error_says_which(report: Report) -> None:
    for row in tag_rows(type(report)):
        assert row.doc, row
        assert all(doc for _, doc in row.errors), row
    lines = tag_table(type(report), prefix="p").splitlines()
    assert len(lines) == 2 + len(tag_rows(type(report)))
    assert {line.count(" | ") for line in lines[2:]} == {3}


@pytest.mark.parametrize("report", FULL, ids=lambda report: type(report).__name__)
def test_a_full_report_comes_back_with_the_same_scalars(report: Report) -> None:
    again = type(report).from_dict(json.loads(json.dumps(report.to_dict())))
    assert scalars(again) == scalars(report)


def test_tags_that_stand_for_others_are_told_apart() -> None:
    rows = {row.tags[0]: row for row in tag_rows(SpectrumReport)}
    assert rows["eig_<i>"].names("eig_12_bound")
    assert not rows["eig_<i>"].names("eig_min_1")
    assert rows["eig_<i>/<name>"].names("eig_1/network.0.weight")
    assert not rows["eig_<i>"].names("eig_1/network.0.weight")


def test_of_a_failure_everything_shown_is_declared_so() -> None:
    assert scalars(failed_at()).keys() == {"failed", "seconds", "num_skipped"}


def test_a_band_has_both_its_ends_among_the_tags() -> None:
    for report in FULL:
        tags = tagged(report, prefix="p", amount="few")
        bands = [tags_ for kind, tags_ in charts(report, prefix="p").values() if kind == "Margin"]
        assert bands
        for series in bands:
            assert set(series) <= tags.keys()


def test_groups_follow_from_what_holds_a_number_and_errors_are_by_themselves() -> None:
    tags = tagged(_mine(cost=2.0), prefix="p").keys()
    assert {"p/size", "p_errors/size_standard_error", "p_cost/cost", "p_errors/failed"} <= tags
    assert {"p_layers/norm/a", "p_layers/gain_2/a", "p_errors/norm_standard_error/b"} <= tags
    assert {tag.split("/", 1)[1] for tag in tags} == scalars(_mine(cost=2.0)).keys()


def test_few_are_values_and_parts_what_is_charted_and_what_declares_itself() -> None:
    few = tagged(_mine(cost=2.0, seconds=1.0), prefix="p", amount="few").keys()
    assert few == {
        "p/size",
        "p/double",
        "p/bound_low",
        "p/bound_high",
        "p_layers/norm/a",
        "p_layers/norm/b",
        "p_layers/gain_1/a",
        "p_layers/gain_2/a",
        "p_layers/gain_1/b",
        "p_cost/seconds",
        "p_errors/failed",
        "p_errors/qualified",
    }


@pytest.mark.parametrize("report", FULL, ids=lambda report: type(report).__name__)
def test_nothing_is_lost_among_all_and_few_are_some_of_them(report: Report) -> None:
    every = tagged(report, prefix="p")
    few = tagged(report, prefix="p", amount="few")
    assert len(every) == len(scalars(report))
    assert few.items() < every.items()
    first = [tag for tag in every if tag.startswith("p/")]
    assert set(first) < few.keys()


def test_what_one_looks_at_is_a_dozen_numbers_at_the_defaults() -> None:
    report = replace(FULL_SPECTRUM, blocks=(), batch_sharpness=None)
    first = [tag for tag in tagged(report, prefix="p") if tag.startswith("p/")]
    assert sorted(first) == [
        "p/edge_eig_1",
        "p/edge_margin",
        "p/eig_1",
        "p/eig_2",
        "p/eig_min_1",
        "p/frobenius_norm",
        "p/gradient_norm",
        "p/loss",
        "p/negative_fraction",
        "p/trace",
    ]
    point = [tag for tag in tagged(point_at(), prefix="p") if tag.startswith("p/")]
    assert len(point) == 11
    difference = [tag for tag in tagged(difference_report(), prefix="p") if tag.startswith("p/")]
    assert len(difference) == 5


def test_the_table_of_tags_has_the_few_in_bold() -> None:
    bold = {
        tag.replace("<i>", "1")
        for tag in re.findall(r"\*\*`([^`]+)`\*\*", tag_table(SpectrumReport, prefix="p"))
    }
    full = tagged(report_at(), prefix="p", amount="few")
    assert full.keys() - bold == {"p/eig_2"}

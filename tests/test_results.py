"""The records: what they refuse, what they compute, and their form in primitives."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest
import torch

from lightning_hessian import SpectrumReport
from lightning_hessian.records import (
    EigenvectorOverlap,
    Estimate,
    Note,
    ParameterBlock,
    SpectralDensity,
)
from tests.helpers.reports import eigenvalues_at, failed_at, report_at, trace_at


def _density(weights: list[float], nodes: list[float] | None = None) -> SpectralDensity:
    probe_weights = torch.tensor(weights, dtype=torch.float64)[:, None]
    return SpectralDensity(
        nodes=torch.tensor(nodes or list(range(len(weights))), dtype=torch.float64),
        weights=probe_weights[:, 0],
        probe_weights=probe_weights,
        bandwidth=0.1,
    )


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.1, -0.1], [math.nan, 1.0], [0.0, 0.0]])
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="must be non-negative and sum to 1, got a sum of"):
        _density(weights)


def test_moments_and_curve_of_two_nodes() -> None:
    density = _density([0.25, 0.75], [-1.0, 3.0])
    assert density.mean == pytest.approx(2.0)
    assert density.second_moment == pytest.approx(7.0)
    peak = 0.75 / (0.1 * math.sqrt(2 * math.pi))
    assert density.evaluate(torch.tensor([[3.0]])).tolist() == [[pytest.approx(peak)]]


def test_report_in_primitives_holds_every_field() -> None:
    report = SpectrumReport(
        largest=eigenvalues_at([2.0, 1.0], [0.5, 0.0], [True, False]),
        density=_density([0.5, 0.5]),
        trace=trace_at(1.5, 0.25, (1.0, 2.0)),
        notes=(Note("first", "a"), Note("second", "b")),
    )
    found = report.to_dict()
    assert list(found) == [f.name for f in dataclasses.fields(SpectrumReport)]
    assert found["largest"] == {
        "values": [2.0, 1.0],
        "residual_bounds": [0.5, 0.0],
        "converged": [True, False],
    }
    assert found["smallest"] == {"values": [], "residual_bounds": [], "converged": []}
    assert found["trace"] == {
        "value": 1.5,
        "standard_error": 0.25,
        "interval": [1.0, 2.0],
        "num_probes": 10,
        "converged": True,
        "blocks": None,
        "squares": None,
    }
    assert found["notes"] == [
        {"code": "first", "text": "a"},
        {"code": "second", "text": "b"},
    ]
    assert found["density"] == {
        "nodes": [0.0, 1.0],
        "weights": [0.5, 0.5],
        "probe_weights": [[0.5], [0.5]],
        "bandwidth": 0.1,
    }
    assert found["failure"] is None
    json.dumps(found)


def test_report_in_primitives_is_loaded_with_weights_only() -> None:
    report = SpectrumReport(
        largest=eigenvalues_at([2.0], [0.5]),
        density=_density([1.0]),
        notes=(Note("first", "a"),),
    )
    file = io.BytesIO()
    torch.save(report.to_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert loaded["largest"]["values"] == [2.0]
    assert loaded["notes"] == [{"code": "first", "text": "a"}]
    assert math.isnan(loaded["gradient_norm"])


def test_empty_report_says_nothing_rather_than_zero() -> None:
    report = SpectrumReport(failure="why")
    assert report.trace is None
    assert math.isnan(report.gradient_norm)
    assert len(report.largest.values) == 0
    assert report.density is None
    assert report.to_dict()["failure"] == "why"


def test_what_has_no_primitive_form_is_refused() -> None:
    with pytest.raises(TypeError, match="a report holds a set, which has no primitive form"):
        SpectrumReport(data={1}).to_dict()  # type: ignore[arg-type]


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SpectrumReport().trace = None  # type: ignore[misc]


def test_a_report_comes_back_from_its_primitives_and_from_json() -> None:
    nested = {
        "blocks": (
            ParameterBlock(name="body", trace=Estimate(value=1.0, standard_error=math.nan)),
        ),
        "notes": (Note("first", "a"),),
        "overlap": EigenvectorOverlap(cosines=torch.ones(1), partners=torch.zeros(1), subspace=0.5),
    }
    report = report_at(7, unused_parameters=("a", "b"), ckpt_path="x.ckpt", **nested)
    for plain in (report.to_dict(), json.loads(json.dumps(report.to_dict()))):
        again = SpectrumReport.from_dict({**plain, "of_a_later_version": 1})
        # a nan is not equal to itself
        assert repr(again.to_dict()) == repr(report.to_dict())
        assert again.notes[0].code == "first"
        assert again.largest.converged.dtype == torch.bool
        assert again.density is not None
        assert again.density.probe_weights.equal(report.density.probe_weights)


def test_a_report_without_numbers_comes_back() -> None:
    again = SpectrumReport.from_dict(failed_at(3).to_dict() | {"gradient_norm": None})
    assert again.failure == "ValueError: no"
    assert math.isnan(again.gradient_norm)
    assert again.trace is None
    assert again.largest.converged.dtype == torch.bool
    assert again.largest.values.dtype == torch.float64
    assert again.density is None

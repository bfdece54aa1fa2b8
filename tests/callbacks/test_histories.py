"""What a checkpoint holds of earlier reports: compact, bounded, never in the way of a resume."""

from __future__ import annotations

import copy
import dataclasses
import io
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_hessian import HessianSpectrum, LossDifference
from lightning_hessian.callbacks import MeasuringCallback
from lightning_hessian.fit.history import MOST_REPORTS, NUM_WHOLE
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.reports import density_at, failed_at, report_at
from tests.helpers.spectrum import spectrum, steps
from tests.writers.test_declarations import FULL_DIFFERENCE, FULL_SPECTRUM

Place = tuple[Any, ...]
GONE = object()
ANEW = "The history of Hessian reports .* cannot be read: .* begins anew"


def itself() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


INSTEAD: dict[str, Any] = {
    "left out": GONE,
    "none": None,
    "a text": "x",
    "an empty text": "",
    "a fraction": 1.5,
    "a negative number": -1,
    "too large a number": 10**400,
    "infinity": math.inf,
    "not a number": math.nan,
    "a flag": True,
    "a list": [],
    "a list of lists of other lengths": [[1.0], [1.0, 2.0]],
    "a deep list": nested(5000),
    "a list that holds itself": itself(),
    "a dictionary": {},
    "a dictionary of what is no text": {1: 2},
    "a tensor": torch.zeros(2),
    "an object": object(),
}


def holding(kind: type[MeasuringCallback[Any]], reports: list[Any]) -> MeasuringCallback[Any]:
    callback = kind()
    callback.reports.extend(reports)
    return callback


def state_of(name: str) -> dict[str, Any]:
    """A state with everything in it that there may be."""
    if name == "LossDifference":
        return holding(LossDifference, [FULL_DIFFERENCE]).state_dict()
    state = holding(HessianSpectrum, [FULL_SPECTRUM]).state_dict()
    study = {"names": ["a"], "vectors": torch.ones(3, 1), "count": 2, "error": 0.5}
    return state | {"measured_at": [8, -3, 5], "study": study}


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every key and every first element, at each depth."""
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*place, key))
    if isinstance(value, list) and value:
        yield from places(value[0], (*place, 0))


def damaged(state: Any, place: Place, instead: Any) -> Any:
    if not place:
        return {} if instead is GONE else instead
    result = state.copy()
    if instead is GONE and len(place) == 1:
        del result[place[0]]
    else:
        result[place[0]] = damaged(state[place[0]], place[1:], instead)
    return result


def plain(value: Any) -> Any:
    """As a text that tells numbers apart, but not how they were written."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None:
        return "nan"
    if type(value) in (int, float) and abs(value) < 2**63:
        return str(float(value))
    return repr(value)


KINDS = {"HessianSpectrum": HessianSpectrum, "LossDifference": LossDifference}


@pytest.mark.parametrize("way", INSTEAD)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_history_is_what_it_says_or_begins_anew_with_a_warning(
    name: str, way: str
) -> None:
    state = state_of(name)
    tried = anew = 0
    for place in places(state):
        if name == "LossDifference" and place[:1] == ("study",):
            continue
        bad = damaged(state, place, INSTEAD[way])
        callback = KINDS[name]()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            callback.load_state_dict(bad)
        tried += 1
        if told:
            (warning,) = told
            assert "begins anew; the checkpoint is resumed as it is" in str(warning.message)
            assert (callback.reports, callback.state_dict()["study"]) == ([], {}), place
            anew += 1
        else:
            again = callback.state_dict()
            assert plain(again["reports"]) == plain(bad["reports"]), (place, way)
            assert plain(again["study"]) == plain(bad["study"]), (place, way)
    assert tried > 80
    # what most fields may hold are numbers of any kind, or None
    assert anew > tried // 4


def test_an_untouched_history_comes_back_whole() -> None:
    for name, kind in KINDS.items():
        state, callback = state_of(name), kind()
        callback.load_state_dict(copy.deepcopy(state))
        again = callback.state_dict()
        assert plain(again["reports"]) == plain(state["reports"])
        assert plain(again["study"]) == plain(state["study"])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda s: {}, "in version None, and only version 3 is known here"),
        (lambda s: s | {"version": torch.zeros(3)}, "in version None, and only version 3"),
        (lambda s: s | {"reports": {}}, "must hold a list of `reports`"),
        (lambda s: s | {"settings": 3}, "`settings` must be a text, got 3"),
        (lambda s: s | {"more": 3}, "must be all fields of .* no others; it differs in 'more'"),
        (lambda s: s | {"reports": [3]}, "report 0 of it is not one: `values` must be the fields"),
        (
            lambda s: damaged(s, ("reports", 0, "trace", "value"), "x"),
            "report 0 .*: `trace.value` must be a number, got 'x'",
        ),
        (
            lambda s: damaged(s, ("reports", 0, "cost"), math.inf),
            "`cost` of `report` must be finite and not negative, got inf",
        ),
        (
            lambda s: damaged(s, ("left_out", "count"), -1),
            "`count` of `left_out` must be finite and not negative, got -1",
        ),
        (
            lambda s: damaged(s, ("reports", 0, "density", "weights"), [2.0, 0.0, 0.0]),
            "`weights` of a spectral density must be non-negative and sum to 1",
        ),
        (lambda s: s | {"study": {"names": 3}}, "it remembers no eigenvector"),
        (
            lambda s: damaged(s, ("study", "count"), -1),
            "it remembers no number of reports and error",
        ),
    ],
)
def test_the_warning_names_the_reason(damage: Callable[[Any], Any], reason: str) -> None:
    with pytest.warns(UserWarning, match=f"{ANEW[: -len('.* begins anew')]}.*{reason}"):
        HessianSpectrum(on_error="raise").load_state_dict(damage(state_of("HessianSpectrum")))


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    ("place", "instead"),
    [
        (("reports", 0, "loss"), GONE),
        ((), "x"),
        (("reports", 0, "cost"), math.nan),
        (("reports", 0, "largest", "values"), nested(50)),
        (("measured_at",), "x"),
        # of the right kind, and nonsense
        (("reports", 0, "cost"), 1e300),
        (("reports", 0, "epoch"), 2**62),
        (("reports", 0, "largest", "values"), [math.nan, -math.inf]),
        (("left_out", "count"), 2**62),
    ],
    ids=["a key", "all", "nan", "nesting", "weights", "price", "epoch", "eigenvalues", "count"],
)
def test_a_fit_goes_on_from_a_checkpoint_with_a_damaged_history(
    place: Place, instead: Any, tmp_path: Path
) -> None:
    def fit(callback: HessianSpectrum, epochs: int, ckpt_path: Path | None = None) -> None:
        saver = ModelCheckpoint(tmp_path, filename="a", every_n_epochs=1)
        run = trainer(callback, saver, max_epochs=epochs, enable_checkpointing=True)
        torch.manual_seed(4)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=ANEW)
            run.fit(Classifier(), loader(), ckpt_path=ckpt_path, weights_only=True)
        assert run.global_step == 4 * epochs

    fit(spectrum(every_n_epochs=None, every_n_train_steps=2), 1)
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    (key,) = (key for key in checkpoint["callbacks"] if "Hessian" in key)
    checkpoint["callbacks"][key] = damaged(checkpoint["callbacks"][key], place, instead)
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    # under a limit, for which the history is counted on
    resumed = HessianSpectrum(num_samples=8, max_overhead=0.5)
    fit(resumed, 3, tmp_path / "bad.ckpt")
    assert resumed.reports[-1].global_step == 12
    assert resumed.reports[-1].failure is None


def test_a_long_history_keeps_the_first_and_the_latest_and_its_account() -> None:
    count = 3 * MOST_REPORTS
    made = [report_at(step, cost=10.0) for step in range(count - 1)]
    callback = holding(HessianSpectrum, [failed_at(-0), *made])
    state = callback.state_dict()
    kept = [report["global_step"] for report in state["reports"]]
    assert len(kept) == MOST_REPORTS
    latest = MOST_REPORTS // 2
    assert kept[-latest:] == list(range(count - 1 - latest, count - 1))
    early = kept[1:-latest]
    gaps = {after - before for before, after in itertools.pairwise(early)}
    assert gaps == {count // latest - 1}  # evenly
    assert state["reports"][0]["failure"] is not None
    assert len(callback.reports) == count  # those of the running fit are whole
    again = holding(HessianSpectrum, [])
    again.load_state_dict(state)
    for each in (callback, again):
        assert each._recorder.log.num_made == count - 1
        assert each._recorder.log.spent == 10.0 * (count - 1)
    assert again.state_dict()["left_out"] == state["left_out"]
    assert repr(again.state_dict()) == repr(state)


def test_what_is_bulky_travels_with_the_last_reports_alone() -> None:
    callback = holding(HessianSpectrum, [report_at(step) for step in range(NUM_WHOLE + 3)])
    found = callback.state_dict()["reports"]
    assert [report["density"] is None for report in found] == [True] * 3 + [False] * NUM_WHOLE
    assert all(report["trace"]["value"] == 12.0 for report in found)
    surfaces = [dataclasses.replace(FULL_DIFFERENCE, sample_losses=torch.ones(5))] * 12
    held = holding(LossDifference, surfaces).state_dict()["reports"]
    assert [report["sample_losses"] for report in held] == [[]] * 2 + [[1.0] * 5] * NUM_WHOLE


def test_a_history_of_twenty_thousand_reports_is_small_and_read_at_once() -> None:
    many = [report_at(density=density_at(*map(float, range(60))))] * 20_000
    file = io.BytesIO()
    torch.save(holding(HessianSpectrum, many).state_dict(), file)
    assert len(file.getvalue()) < 600_000
    file.seek(0)
    state = torch.load(file, weights_only=True)
    # of another maker, who did not know of the bound
    state["reports"] = [state["reports"][0]] * 20_000
    callback = HessianSpectrum()
    start = time.process_time()
    callback.load_state_dict(state)
    assert time.process_time() - start < 5  # a fraction of a second
    assert len(callback.reports) == MOST_REPORTS
    assert callback._recorder.log.num_made == 2 * 20_000 - MOST_REPORTS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_fit_is_planned_as_if_all_reports_had_travelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(most: int, ckpt_path: Path | None = None) -> HessianSpectrum:
        monkeypatch.setattr("lightning_hessian.fit.history.MOST_REPORTS", most)
        callback = spectrum(max_overhead=0.9, every_n_epochs="auto", num_samples=2)
        saver = ModelCheckpoint(tmp_path / str(most), save_top_k=-1, every_n_epochs=15)
        torch.manual_seed(4)
        trainer(callback, saver, max_epochs=30, enable_checkpointing=True).fit(
            Classifier(), loader(shuffle=False), ckpt_path=ckpt_path, weights_only=True
        )
        return callback

    name, later = "epoch=14-step=60.ckpt", {}
    for most in (4, 400):
        count = sum(step <= 60 for step in steps(fit(most)))
        assert count > 4
        resumed = fit(most, tmp_path / str(most) / name)
        kept = min(most, count)
        later[most] = [(r.global_step, r.num_hvps, r.overhead) for r in resumed.reports[kept:]]
    assert later[4] == later[400]
    assert len(later[4]) > 2

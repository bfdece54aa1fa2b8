"""Raw and averaged weights, as the callbacks of Lightning that average leave them in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch import nn
from torch.optim.swa_utils import SWALR

from lightning_hessian import Krylov, SpectrumReport
from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.fit import choose_weights, named_as
from tests.helpers.checkpoints import analyzed, fitted
from tests.helpers.fitting import Classifier, classification_data
from tests.helpers.networks import measured
from tests.helpers.spectrum import spectrum

# in torch 2.9 the state of its scheduler holds a function, and is for who trusts the file
OF_SWA: dict[str, Any] = {"weights_only": "state_dict" in vars(SWALR)}
EVERYTHING = {"num_eigenvalues": 1, "trace": False, "density": False, "solver": Krylov(max_hvps=8)}


def at(state: dict[str, Any], module: Classifier, **options: Any) -> SpectrumReport:
    """Measured by a callback in a fit that begins with these weights."""
    module.load_state_dict(state)
    return measured(module, classification_data(), **(EVERYTHING | options))


def both(folder: Path, module: Classifier, **options: Any) -> dict[str, SpectrumReport]:
    path = sorted(folder.iterdir())[-1]
    found = {}
    for weights in ("current", "averaged"):
        make = spectrum(num_samples="all")
        (found[weights],) = analyzed(module, path, weights=weights, callback=make, **options)
    return found


def test_an_ema_has_its_average_as_state_and_the_raw_weights_beside(tmp_path: Path) -> None:
    fitted(tmp_path, Classifier(), EMAWeightAveraging(decay=0.5))
    content = torch.load(sorted(tmp_path.iterdir())[-1], weights_only=True)
    reports = both(tmp_path, Classifier())
    for weights, key in (("current", "current_model_state"), ("averaged", "state_dict")):
        expected = at(content[key], Classifier())
        report = reports[weights]
        assert report.weights == weights
        assert (report.loss, report.global_step) == (expected.loss, 6)
        assert report.largest.values.equal(expected.largest.values)
    assert reports["current"].loss != reports["averaged"].loss


def test_a_swa_has_its_average_in_the_state_of_the_callback(tmp_path: Path) -> None:
    # from the second of four epochs on
    swa = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2)
    fitted(tmp_path, Classifier(), swa, max_epochs=4)
    content = torch.load(sorted(tmp_path.iterdir())[-1], **OF_SWA)
    average = content["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
    reports = both(tmp_path, Classifier(), **OF_SWA)
    for weights, state in (("current", content["state_dict"]), ("averaged", average)):
        expected = at(state, Classifier())
        assert reports[weights].loss == expected.loss
        assert reports[weights].largest.values.equal(expected.largest.values)
    assert reports["current"].loss != reports["averaged"].loss


def normalised() -> Classifier:
    return Classifier(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)))


def test_swa_averages_are_not_measured_with_statistics_of_other_weights(tmp_path: Path) -> None:
    swa = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2)
    fitted(tmp_path, normalised(), swa, max_epochs=4)
    path = sorted(tmp_path.iterdir())[-1]
    reason = 'it holds running statistics of the current.*Measure them with `mode="train"`'
    refused(path, normalised(), reason, **OF_SWA)
    by_batch = spectrum(mode="train")
    (report,) = analyzed(normalised(), path, weights="averaged", callback=by_batch, **OF_SWA)
    assert report.failure is None
    # as when the averaged weights have been given to the module, and its statistics taken anew
    content = torch.load(path, **OF_SWA)
    average = content["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
    names = [name for name, _ in normalised().named_parameters()]
    content["state_dict"] |= {name: average[name] for name in names}
    torch.save(content, path)
    kinds = ("current", "averaged")
    reports = [analyzed(normalised(), path, weights=kind, **OF_SWA)[0] for kind in kinds]
    assert reports[0].loss == reports[1].loss


def refused(path: Path, module: Classifier, reason: str, **options: Any) -> None:
    """The averaged weights of this only file are not measured, and both ways it is said why."""
    with (
        pytest.warns(UserWarning, match=f"is skipped: {reason}"),
        pytest.raises(UnreadableCheckpointError, match=reason),
    ):
        analyzed(module, path, weights="averaged", **options)


def test_a_file_without_an_average_says_so(tmp_path: Path) -> None:
    fitted(tmp_path, Classifier(), max_epochs=1)
    reason = "it holds no averaged weights: neither `current_model_state`.*nor.*Stochastic"
    refused(tmp_path, Classifier(), reason)


@pytest.mark.parametrize(
    "averager",
    [
        lambda: EMAWeightAveraging(update_starting_at_step=100),
        lambda: StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2),
    ],
)
def test_an_average_of_nothing_is_none(tmp_path: Path, averager: Any) -> None:
    fitted(tmp_path, Classifier(), averager(), max_steps=3, max_epochs=4)
    refused(tmp_path, Classifier(), "the averaging of weights had not begun.*`weights=.current.`")


def test_only_two_kinds_of_weights_are_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`weights` must be 'current' or 'averaged', got 'ema'"):
        analyzed(Classifier(), tmp_path, weights="ema")


def test_weights_that_were_compiled_are_given_to_a_module_that_is_not_and_back() -> None:
    plain = ["net.0.weight", "net.0.bias"]
    compiled = ["net._orig_mod.0.weight", "net._orig_mod.0.bias"]
    for saved, own in ((plain, compiled), (compiled, plain), (plain, plain)):
        state = dict.fromkeys(saved, 1)
        assert list(named_as(state, own)) == own
    assert named_as({"other": 1}, plain) == {"other": 1}


def test_a_compiled_submodule_of_a_file_is_measured_in_a_plain_module(tmp_path: Path) -> None:
    fitted(tmp_path, Classifier(), max_epochs=1)
    (path,) = tmp_path.iterdir()
    (expected,) = analyzed(Classifier(), path)
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {
        key.replace("network.", "network._orig_mod."): value
        for key, value in content["state_dict"].items()
    }
    torch.save(content, path)
    (report,) = analyzed(Classifier(), path)
    assert report.largest.values.equal(expected.largest.values)


def test_the_raw_weights_are_the_state_where_nothing_averages() -> None:
    state = {"weight": torch.zeros(1)}
    assert choose_weights({"state_dict": state}, "current", ["weight"]).state is state

"""Switches of torch: put back whatever happens, and the faster float32 only where it is exact."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_hessian.sandbox import fast_float32_is_exact, numerics
from lightning_hessian.sandbox.numerics import exact_derivatives
from tests.helpers.fingerprint import global_state

CPU = torch.device("cpu")


def switches() -> dict[str, Any]:
    """Every precision that the faster products touch."""
    backends: Any = torch.backends
    found = {
        f"{library.__name__}.{name}": getattr(library, name).fp32_precision
        for library in (backends.cuda, backends.mkldnn)
        for name in ("matmul", "conv", "rnn")
        if hasattr(library, name)
    }
    return found | {
        "default type": torch.get_default_dtype(),
        "anomaly": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled),
    }


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test finds out by itself what this machine does, and leaves the switches as they are."""
    monkeypatch.setattr(numerics, "_EXACT", {})
    before = switches()
    yield
    assert switches() == before


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_switches_are_put_back_also_after_an_error(
    fast: bool, fails: bool, dtype: torch.dtype
) -> None:
    module = nn.Linear(2, 2)
    before, state = switches(), global_state()
    try:
        with exact_derivatives(module, dtype, fast_float32=fast):
            inside = switches()
            assert inside["default type"] == dtype
            if fails:
                raise MemoryError("too large")
    except MemoryError:
        assert fails
    assert switches() == before
    assert global_state() == state
    precisions = {value for name, value in inside.items() if "mkldnn" in name}
    assert (numerics.FAST in precisions) == fast


def test_a_users_own_switches_are_put_back() -> None:
    part: Any = torch.backends.mkldnn.matmul
    own = part.fp32_precision
    part.fp32_precision = "bf16"
    try:
        with exact_derivatives(nn.Linear(2, 2), torch.float32):
            assert part.fp32_precision == "ieee"
        assert part.fp32_precision == "bf16"
        fast_float32_is_exact(CPU)
        assert part.fp32_precision == "bf16"
    finally:
        part.fp32_precision = own


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("user", ["highest", "high", "medium"])
def test_a_step_may_read_the_older_switches_as_outside(
    user: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul: Any = torch.backends.cuda.matmul
    # cuDNN's switches can be set without cuDNN
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    quietly(torch.set_float32_matmul_precision, user)
    try:
        before = quietly(older_switches)
        with exact_derivatives(nn.Linear(2, 2), torch.float32, fast_float32=fast):
            # none contradicts the newer switches, or torch would raise
            assert older_switches() == ("medium" if fast else "highest", fast, False)
            with torch.backends.cudnn.flags(enabled=False):
                assert not torch.backends.cudnn.enabled
        assert older_switches() == before
    finally:
        torch.set_float32_matmul_precision("highest")
        for part in (matmul, torch.backends.mkldnn.matmul):
            part.fp32_precision = "none"


def older_switches() -> tuple[str, bool, bool]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


def quietly(function: Any, *given: Any) -> Any:
    """Torch 2.9 warns once of each that is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*given)


def test_parts_go_on_to_follow_the_switch_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    above: Any = torch.backends
    parts = (above.mkldnn, above.mkldnn.conv, above.mkldnn.matmul, above.cuda.matmul)
    for precision, later in (("tf32", "ieee"), ("none", "tf32")):
        above.fp32_precision = precision
        try:
            with exact_derivatives(nn.Linear(2, 2), torch.float32, fast_float32=True):
                pass
            assert {part.fp32_precision for part in parts} == {precision}
            above.fp32_precision = later
            assert {part.fp32_precision for part in parts} == {later}
        finally:
            above.fp32_precision = "none"


class Faked:
    """Stands in for the switch: which kernels multiply, and how exactly these do."""

    def __init__(self, patch: pytest.MonkeyPatch, error: float) -> None:
        self.is_fast, self.products, self.error = False, 0, error
        patch.setattr(numerics, "_set_float32_precision", self._set)
        patch.setattr(torch.Tensor, "__matmul__", self._multiply(torch.Tensor.__matmul__))

    def _set(self, stack: Any, precision: str) -> None:
        self.is_fast = precision == numerics.FAST

    def _multiply(self, original: Any) -> Any:
        def multiply(left: Tensor, right: Tensor) -> Tensor:
            exact: Tensor = original(left, right)
            self.products += 1
            return exact * (1 + self.error) if self.is_fast else exact

        return multiply


@pytest.mark.parametrize(("error", "is_exact"), [(0.0, True), (2**-9, False), (2**-11, False)])
def test_kernels_that_round_are_noticed_and_asked_once(
    error: float, is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # roundings to the 8 bits of bfloat16 or the 11 of TF32
    fake = Faked(monkeypatch, error)
    assert fast_float32_is_exact(CPU) is is_exact
    products = fake.products
    assert products == 3
    assert fast_float32_is_exact(CPU) is is_exact
    assert fake.products == products


def test_the_answer_holds_for_the_products_of_this_machine() -> None:
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(200, 300, generator=generator) for _ in range(2))
    truth = left.double() @ right.double().T
    errors = []
    for fast in (False, True):
        with exact_derivatives(nn.Linear(2, 2), torch.float32, fast_float32=fast):
            errors.append(float((left @ right.T - truth).norm() / truth.norm()))
    # 24 bits, summed over 300 terms; a rounding to 8 bits would show as 1e-3
    assert errors[0] < 300 * torch.finfo(torch.float32).eps
    assert fast_float32_is_exact(CPU) == (errors[1] < 300 * torch.finfo(torch.float32).eps)


def test_kernels_of_attention_are_put_back_where_leaving_them_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def fails_in_leaving(*_: Any) -> Iterator[None]:
        torch.backends.cuda.enable_flash_sdp(False)
        yield
        raise OSError("gone")

    before = global_state()["attention"]
    monkeypatch.setattr(numerics, "sdpa_kernel", fails_in_leaving)
    with (
        pytest.raises(OSError, match="gone"),
        exact_derivatives(nn.Linear(2, 2), torch.float32),
    ):
        pass
    assert global_state()["attention"] == before

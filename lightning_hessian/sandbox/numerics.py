"""Switches of torch under which a second derivative of a training step exists and is exact."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_hessian.sandbox.patching import replaced_attributes

_MKLDNN_PARTS = ("matmul", "conv", "rnn")
FAST = "bf16"
_EXACT: dict[str, bool] = {}


@contextmanager
def exact_derivatives(
    module: nn.Module, dtype: torch.dtype, *, fast_float32: bool = False
) -> Iterator[None]:
    """Compute with kernels that can be differentiated twice, at full precision.

    - scaled dot-product attention by its math kernel: the fused ones have no second derivative;
    - ``torch.compile``d parts run eagerly: compiled backward passes refuse ``create_graph``;
    - ``torch._weight_norm`` written out: its own second derivative is wrong (torch 2.13, CPU);
    - float32 matrix products at their highest precision, or by the faster kernels where these lose
      nothing; no autocast, no anomaly detection;
    - cuDNN without benchmarking, and off for modules with a recurrent layer.
    """
    with ExitStack() as stack:
        _keep_attention(stack)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if _may_hold_compiled_code():
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for device_type in {"cpu", *(p.device.type for p in module.parameters())} - {"meta"}:
            stack.enter_context(torch.autocast(device_type, enabled=False))
        # the hook-based `torch.nn.utils.weight_norm` bound the function's name at import
        for owner in (torch, sys.modules["torch.nn.utils.weight_norm"]):
            stack.enter_context(replaced_attributes(owner, _weight_norm=weight_norm))
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        _set_dtype(stack, dtype)
        _set_float32_precision(stack, "ieee")
        if fast_float32:
            _set_float32_precision(stack, FAST)
        if torch.backends.cudnn.is_available():
            _set_cudnn(stack, any(isinstance(m, nn.RNNBase) for m in module.modules()))
        yield


def in_precision(dtype: torch.dtype, precision: torch.dtype) -> torch.dtype:
    """The type that stands for another where numbers are of a precision: whole ones stay."""
    if dtype.is_complex:
        return precision.to_complex()
    return precision if dtype.is_floating_point else dtype


def _keep_attention(stack: ExitStack) -> None:
    # a fault in leaving `sdpa_kernel` leaves some of its four switches
    switches: Any = torch.backends.cuda
    for kernel in ("flash", "mem_efficient", "math", "cudnn"):
        is_enabled = getattr(switches, f"{kernel}_sdp_enabled")()
        stack.callback(getattr(switches, f"enable_{kernel}_sdp"), is_enabled)


def _set_dtype(stack: ExitStack, dtype: torch.dtype) -> None:
    stack.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(dtype)


def fast_float32_is_exact(device: torch.device) -> bool:
    """Whether the faster float32 matrix products of this machine are as exact as the others.

    The switch allows roundings to bfloat16 (CPU) or TF32 (GPU); whether they happen depends on the
    processor. They do where products of random matrices are off by more than twice what they are
    otherwise. Known for each device after three small products.
    """
    key = str(device)
    if key not in _EXACT:
        generator = torch.Generator().manual_seed(0)
        left, right = (
            torch.randn(384, 384, generator=generator).to(device=device) for _ in range(2)
        )
        # on the CPU: not every device has float64
        truth = left.cpu().double() @ right.cpu().double()
        errors = []
        for precision in ("ieee", FAST):
            with ExitStack() as stack:
                _set_float32_precision(stack, precision)
                errors.append(float(((left @ right).cpu() - truth).norm()))
        _EXACT[key] = errors[1] <= 2 * errors[0]
    return _EXACT[key]


def _set_float32_precision(stack: ExitStack, precision: str) -> None:
    is_exact = precision == "ieee"
    backends: Any = torch.backends
    wanted = {getattr(backends.mkldnn, name): precision for name in _MKLDNN_PARTS}
    _set_parts(
        stack,
        wanted | {backends.cuda.matmul: "ieee" if is_exact else "tf32"},
        read=torch.get_float32_matmul_precision,
        write=torch.set_float32_matmul_precision,
        old="highest" if is_exact else "medium",
    )


def _set_cudnn(stack: ExitStack, has_recurrent: bool) -> None:
    # one by one: `cudnn.flags()` would turn TF32 on for a user who had it off
    cudnn: Any = torch.backends.cudnn
    for flag, value in (("benchmark", False), ("deterministic", True), ("enabled", False)):
        if flag != "enabled" or has_recurrent:
            _set(stack, cudnn, flag, value)
    _set_parts(
        stack,
        {cudnn.conv: "ieee", cudnn.rnn: "ieee"},
        read=lambda: cudnn.allow_tf32,
        write=partial(setattr, cudnn, "allow_tf32"),
        old=False,
    )


def _set_parts(
    stack: ExitStack,
    wanted: Mapping[Any, str],
    *,
    read: Callable[[], Any],
    write: Callable[[Any], None],
    old: Any,
) -> None:
    """Set the switch of each part, and the old one for them all, which a step may read.

    Torch raises where an old switch contradicts the newer ones and is read, as by
    ``cudnn.flags()``.
    """
    # from the top down: what is then read of each is its own, not what it follows
    for above in (torch.backends, torch.backends.cudnn, torch.backends.mkldnn):
        _set(stack, above, "fp32_precision", "none")
    # put back after the old one, which sets these too
    for part in wanted:
        stack.callback(setattr, part, "fp32_precision", part.fp32_precision)
    _warn_of_old_switches()
    try:
        own = read()
    except RuntimeError:
        # the user has newer ones that contradict it: it can be read neither outside nor inside
        own = old
    if own != old:
        stack.callback(write, own)
        write(old)
    for part, precision in wanted.items():
        part.fp32_precision = precision


@cache
def _warn_of_old_switches() -> None:
    """Torch 2.9 warns once a process of an old switch in use; of ours it has no need to."""
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter("ignore")
        torch.get_float32_matmul_precision()


def _set(stack: ExitStack, switches: Any, name: str, value: Any) -> None:
    stack.callback(setattr, switches, name, getattr(switches, name))
    setattr(switches, name, value)


def _may_hold_compiled_code() -> bool:
    """Importing dynamo takes seconds, and what was never imported has compiled nothing."""
    return "torch._dynamo" in sys.modules


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """``v * g / ||v||`` in elementary operations, the norm over all but ``dim`` (-1: over all).

    References:
        T. Salimans, D. P. Kingma (2016), "Weight normalization", eq. (2).
    """
    others = [d for d in range(v.dim()) if dim == -1 or d != dim % v.dim()]
    # a vector along its only dimension: a sum over no dimensions would be one over all of them
    norm = v.square().sum(dim=others, keepdim=True).sqrt() if others else v.abs()
    return v * (g / norm)

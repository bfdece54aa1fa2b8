"""Bit-exact descriptions of whatever Python can reach, to compare two states by."""

from __future__ import annotations

import hashlib
import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

Record = dict[str, str]
OPAQUE = (pl.Trainer, torch.optim.Optimizer, torch.dtype, torch.device, type, types.ModuleType)


def fingerprint(
    thing: Any, path: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, str]]:
    """Walk all that Python can reach, however deep, as pairs of a path and a text of the bits.

    Written apart from `StateSnapshot` on purpose, so that they do not share their blind spots.
    """
    seen = set() if seen is None else seen
    if thing is None or isinstance(thing, str | bytes | bool | int | float | complex):
        if not path.endswith("_torchdynamo_wrapper_id"):
            yield path, repr(thing)
        return
    foreign = type(thing).__module__.startswith(("torch._dynamo", "torch.utils.tensorboard"))
    foreign = foreign and not isinstance(thing, nn.Module)
    if isinstance(thing, OPAQUE) or foreign or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield from _tensor(thing, path, seen)
    elif isinstance(thing, np.ndarray):
        yield path, f"{thing.dtype} {thing.shape} {_digest(thing.tobytes())}"
    elif isinstance(thing, torch.Generator):
        yield path, _digest(thing.get_state().numpy().tobytes())
    elif isinstance(thing, np.random.Generator):
        yield path, repr(thing.bit_generator.state)
    elif isinstance(thing, np.random.RandomState):
        yield path, _legacy_numpy(thing.get_state())
    elif isinstance(thing, random.Random):
        yield path, _digest(repr(thing.getstate()).encode())
    elif isinstance(thing, Mapping):
        # torch numbers hooks by a counter of the process, Lightning keys metrics by their id
        numbered = "_hooks" in path.rpartition(".")[2] or path.endswith("_metric_attributes")
        keys = range(len(thing)) if numbered else thing
        yield path, f"{type(thing).__name__} {[str(key) for key in keys]}"
        for key, value in zip(keys, thing.values(), strict=True):
            yield from fingerprint(value, f"{path}.{key}", seen)
    elif isinstance(thing, set | frozenset):
        yield path, repr(sorted(map(repr, thing)))
    elif isinstance(thing, list | tuple | deque):
        yield path, f"{type(thing).__name__} of {len(thing)}"
        for index, value in enumerate(thing):
            yield from fingerprint(value, f"{path}[{index}]", seen)
    elif isinstance(thing, types.FunctionType):
        for index, cell in enumerate(thing.__closure__ or ()):
            yield from fingerprint(_content(cell), f"{path}.closure[{index}]", seen)
    elif isinstance(thing, types.MethodType):
        yield from fingerprint(thing.__self__, f"{path}.self", seen)
    else:
        for name in _attribute_names(thing):
            yield from fingerprint(getattr(thing, name), f"{path}.{name}", seen)


def _tensor(tensor: Tensor, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return
    bits = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    raw = bits.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    flags = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad} {tensor.is_leaf}"
    yield path, f"{flags} {_digest(raw)}"
    hooks = tensor._backward_hooks
    yield f"{path}.hooks", str(len(hooks or ()))
    if tensor.is_leaf:
        yield f"{path}.grad", "None" if tensor.grad is None else "there"
        yield from fingerprint(tensor.grad, f"{path}.grad", seen)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _attribute_names(thing: object) -> list[str]:
    slots = [
        name
        for kind in type(thing).__mro__
        for name in (*getattr(kind, "__slots__", ()),)
        if not name.startswith("__") and hasattr(thing, name)
    ]
    return [*slots, *getattr(thing, "__dict__", ())]


def _legacy_numpy(state: Any) -> str:
    return _digest(state[1].tobytes()) + repr(state[2:])


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def global_state() -> Record:
    """Generators and switches of the process."""
    cudnn: Any = torch.backends.cudnn
    things = {
        "rng torch": _digest(torch.get_rng_state().numpy().tobytes()),
        "rng numpy": _legacy_numpy(np.random.get_state()),  # noqa: NPY002
        "rng python": _digest(repr(random.getstate()).encode()),
        "default dtype": torch.get_default_dtype(),
        "matmul precision": torch.backends.cuda.matmul.fp32_precision,
        "cudnn precisions": (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        "attention": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
        ),
        "weight norm": torch._weight_norm is torch._C._VariableFunctions._weight_norm,
    }
    return {name: repr(value) for name, value in things.items()}

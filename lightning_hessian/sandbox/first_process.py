"""The first process's weights and buffers, on all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.processes import Processes, on_all_or_none
from lightning_hessian.sandbox.bits import sum_of_bits
from lightning_hessian.sandbox.sandbox import Sandbox


def share_state(sandbox: Sandbox, processes: Processes) -> None:
    """Give the module the first process's parameters and buffers, until the sandbox is left.

    Running statistics differ between data-parallel processes, and weights do under local SGD. A
    checkpoint holds those of the first process, and so does the loss that is measured. All
    processes call this at the same time.
    """
    if processes.size == 1:
        return
    tensors = on_all_or_none(processes, lambda: _tensors(sandbox.module))
    own = on_all_or_none(
        processes, lambda: {name: _signature(tensor) for name, tensor in tensors.items()}
    )
    first = processes.broadcast(own)
    differs = on_all_or_none(processes, lambda: _differences(own, first))
    flags = torch.tensor(differs, dtype=torch.float64, device=processes.device)
    names = [n for n, count in zip(first, processes.sum(flags).tolist(), strict=True) if count]
    bits = on_all_or_none(processes, lambda: {name: tensors[name].detach().cpu() for name in names})
    bits = processes.broadcast(bits)
    on_all_or_none(processes, lambda: sandbox.hold([(tensors[name], bits[name]) for name in names]))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor
        for name, tensor in named.items()
        if tensor.layout == torch.strided and not nn.parameter.is_lazy(tensor)
    }


def _signature(tensor: Tensor) -> tuple[torch.Size, torch.dtype, int]:
    return tensor.shape, tensor.dtype, sum_of_bits(tensor)


def _differences(
    own: dict[str, tuple[torch.Size, torch.dtype, int]],
    first: dict[str, tuple[torch.Size, torch.dtype, int]],
) -> list[bool]:
    kinds = {name: signature[:2] for name, signature in own.items()}
    expected = {name: signature[:2] for name, signature in first.items()}
    if kinds != expected:
        other = sorted(
            name for name in kinds.keys() | expected.keys() if kinds.get(name) != expected.get(name)
        )
        raise RefusedError(
            "parameters and buffers must have the same names, shapes and types on all processes, "
            f"got others than the first one's in {', '.join(other[:5])}. Only the first process's "
            "weights are measured, as only those are saved."
        )
    return [own[name] != signature for name, signature in first.items()]

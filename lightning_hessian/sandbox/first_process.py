"""What each process measures on: its share of the batches, at the first one's weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.processes import Processes, agreed
from lightning_hessian.sandbox.sandbox import Sandbox
from lightning_hessian.sandbox.shards import local_part


def in_step(frozen: FrozenBatches, processes: Processes) -> FrozenBatches:
    """Let every process have equally many batches, by repeats of its last one without weight.

    A step may hold exchanges of its own (``all_gather``, synchronised statistics), in which the
    processes wait for each other: so all of them call it equally often.

    Args:
        frozen: This process's share, at least one batch.
        processes: Each calls this at the same time.

    Returns:
        This process's batches, with the number of samples of all processes.
    """
    if processes.size == 1:
        return frozen
    counts = torch.zeros(processes.size + 1, dtype=torch.float64, device=processes.device)
    counts[processes.rank] = len(frozen.batches)
    counts[-1] = frozen.num_samples
    *numbers, num_samples = (int(count) for count in processes.sum(counts))
    repeat = replace(frozen.batches[-1], weight=0)
    repeats = [repeat] * (max(numbers) - len(frozen.batches))
    return replace(frozen, batches=(*frozen.batches, *repeats), num_samples=num_samples)


def share_state(sandbox: Sandbox, processes: Processes) -> None:
    """Give the module the first process's parameters and buffers, until the sandbox is left.

    Running statistics differ between data-parallel processes, and weights do under local SGD. A
    checkpoint holds those of the first process, and so does the loss that is measured.

    Args:
        sandbox: Entered.
        processes: Each calls this at the same time.

    Raises:
        RefusedError: If the processes' modules have other tensors than the first one's.
    """
    if processes.size == 1:
        return
    tensors = agreed(processes, lambda: _tensors(sandbox.module))
    own = agreed(processes, lambda: {name: _signature(tensor) for name, tensor in tensors.items()})
    first = processes.broadcast(own)
    differs = agreed(processes, lambda: _differences(own, first))
    flags = torch.tensor(differs, dtype=torch.float64, device=processes.device)
    names = [n for n, count in zip(first, processes.sum(flags).tolist(), strict=True) if count]
    bits = agreed(processes, lambda: {name: tensors[name].detach().cpu() for name in names})
    bits = processes.broadcast(bits)
    agreed(processes, lambda: sandbox.hold([(tensors[name], bits[name]) for name in names]))


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
    wanted = {name: signature[:2] for name, signature in first.items()}
    if kinds != wanted:
        other = sorted(
            name for name in kinds.keys() | wanted.keys() if kinds.get(name) != wanted.get(name)
        )
        raise RefusedError(
            "parameters and buffers must have the same names, shapes and types on all processes, "
            f"got others than the first one's in {', '.join(other[:5])}. Only the first process's "
            "weights are measured, as only those are saved."
        )
    return [own[name] != signature for name, signature in first.items()]


def sum_of_bits(tensor: Tensor) -> int:
    """A sum of a tensor's bits, to tell two states of it apart.

    Args:
        tensor: Dense.

    Returns:
        The sum of its elements read as whole numbers; of this process's part where it is sharded.
    """
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    held = local_part(tensor.detach())
    real = torch.view_as_real(held) if held.is_complex() else held
    return int(real.view(integers[real.element_size()]).sum())

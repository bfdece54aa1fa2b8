"""Each process has its share of the batches, and the first one's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.processes import processes_of
from lightning_hessian.sandbox import Sandbox, share_state, sum_of_bits
from tests.helpers.processes import in_processes


class Different(nn.Module):
    """Differs by process in a weight and in a buffer of whole numbers."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 2.0 + rank]))
        self.same = nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("count", torch.tensor(10 + rank))


def state(module: nn.Module) -> list[Any]:
    return [tensor.tolist() for tensor in module.state_dict().values()]


def test_all_have_the_first_ones_tensors_inside_and_their_own_outside() -> None:
    def part(rank: int) -> Any:
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        module, found = Different(rank), []
        version = module.weight._version
        for dtype in (torch.float32, torch.float64):
            with Sandbox(module, mode="eval", seed=0, dtype=dtype) as sandbox:
                share_state(sandbox, processes_of(fabric))
                found.append(state(module))
                with torch.no_grad():
                    module.weight.zero_()
                sandbox.reset(0)
                found.append(state(module))
            found.append(state(module))
        assert module.weight._version == version
        other = nn.Linear(1, 1 + rank)
        with (
            Sandbox(other, mode="eval", seed=0, dtype=torch.float32) as sandbox,
            pytest.raises(RefusedError, match=r"same names, shapes and types.*in bias, weight\."),
        ):
            share_state(sandbox, processes_of(fabric))
        return found

    mine = [[0.5, 2.0], [1.0], 10]
    other = [[0.5, 3.0], [1.0], 11]
    first, second = in_processes(part)
    assert first == [mine] * 6
    assert second == [mine, mine, other] * 2


@pytest.mark.parametrize(
    ("tensor", "wanted"),
    [
        (torch.tensor([True, False, True]), 2),
        (torch.tensor(-3), -3),
        (torch.tensor([1.0, 2.0]), 0x3F800000 + 0x40000000),
        (torch.tensor([1.0, 2.0]).bfloat16(), 0x3F80 + 0x4000),
        (torch.tensor([1 + 2j]), 0x3F800000 + 0x40000000),
        (torch.empty(0), 0),
    ],
)
def test_the_sum_of_bits_reads_elements_as_whole_numbers(tensor: Tensor, wanted: int) -> None:
    assert sum_of_bits(tensor) == wanted

"""Which parameters are selected, under which names, in which order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import ParameterSelection
from tests.helpers import hard_modules as hard


def test_all_trainable_parameters_in_the_modules_order() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    selection = ParameterSelection.of(module)
    assert selection.names == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert selection.size == 13
    assert selection.offsets == (0, 6, 9, 12, 13)
    assert all(a is b for a, b in zip(selection.tensors, module.parameters(), strict=True))


def test_frozen_parameters_and_buffers_are_left_out() -> None:
    assert ParameterSelection.of(hard.LowRank()).names == ("down", "up")
    norm = nn.BatchNorm1d(3)
    norm.bias.requires_grad_(False)
    assert ParameterSelection.of(norm).names == ("weight",)


def test_tied_parameters_count_once_and_go_by_either_name() -> None:
    tied = hard.Tied()
    assert ParameterSelection.of(tied).names == ("first.weight",)
    by_alias = ParameterSelection.of(tied, ["second.*"])
    assert by_alias.names == ("first.weight",)
    assert by_alias.size == 16


def test_patterns_are_joined_and_keep_the_modules_order() -> None:
    module = hard.mlp()
    assert ParameterSelection.of(module, ["2.bias", "0.*"]).names == (
        "0.weight",
        "0.bias",
        "2.bias",
    )
    assert ParameterSelection.of(module, ["*"]).names == ParameterSelection.of(module).names
    assert ParameterSelection.of(module, ["[02].bias"]).names == ("0.bias", "2.bias")


def test_flat_and_shaped_are_each_others_inverse() -> None:
    selection = ParameterSelection.of(hard.mlp())
    vector = torch.arange(selection.size, dtype=torch.float64)
    pieces = selection.split(vector)
    assert [piece.shape for piece in pieces] == [p.shape for p in selection.tensors]
    out = torch.zeros_like(vector)
    selection.add_flat(out, pieces, 2.0)
    assert out.equal(2 * vector)


def test_missing_pieces_add_nothing_and_sparse_and_permuted_ones_their_values() -> None:
    module = nn.Linear(2, 2)
    selection = ParameterSelection.of(module)
    out = torch.ones(6)
    selection.add_flat(out, [torch.eye(2).to_sparse(), None], 3.0)
    assert out.tolist() == [4, 1, 1, 4, 1, 1]
    selection.add_flat(out, [torch.tensor([[0.0, 1.0], [2.0, 3.0]]).T, torch.ones(2)], 1.0)
    assert out.tolist() == [4, 3, 2, 7, 2, 2]


def with_sparse() -> nn.Module:
    module = nn.Linear(2, 1)
    module.phase = nn.Parameter(torch.eye(2).to_sparse())
    return module


@pytest.mark.parametrize(
    ("module", "patterns", "reason"),
    [
        (nn.Linear(2, 2).requires_grad_(False), None, "Linear has no trainable parameter.*Set `re"),
        (nn.Tanh(), None, "Tanh has no trainable parameter"),
        (hard.mlp(), ["0.*", "head.*"], "'head.*' matches none. Names look like 0.weight, 0.bias"),
        (hard.LowRank(), ["base.*"], "'base.*' matches none. Names look like down, up"),
        (hard.mlp(), [], r"`parameters` must name at least one pattern.*got an empty"),
        (with_sparse(), None, "'phase' must be dense, got layout torch.sparse_coo.*Leave it out"),
        (nn.LazyLinear(2), None, "'weight' is not initialised yet .*Run one batch"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_what_cannot_be_selected_is_refused(
    module: nn.Module, patterns: list[str] | None, reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        ParameterSelection.of(module, patterns)


def test_a_sparse_parameter_can_be_left_out() -> None:
    assert ParameterSelection.of(with_sparse(), ["weight"]).names == ("weight",)


def test_complex_parameters_are_pairs_of_reals_wherever_they_begin() -> None:
    module = nn.Linear(3, 1)  # weight and bias: an odd place first, then an even one
    module.odd = nn.Parameter(torch.tensor([[1 + 2j, 3 - 1j]]))
    module.real = nn.Parameter(torch.zeros(1))
    module.even = nn.Parameter(torch.tensor([5j]).conj())
    selection = ParameterSelection.of(module)
    assert (selection.size, selection.num_complex) == (3 + 1 + 4 + 1 + 2, 3)
    assert selection.offsets == (0, 3, 4, 8, 9, 11)
    flat = torch.arange(11.0)
    pieces = selection.split(flat)
    assert pieces[2].tolist() == [[4 + 5j, 6 + 7j]]
    assert pieces[4].tolist() == [9 + 10j]
    back = torch.zeros(11, dtype=torch.float64)
    selection.add_flat(back, [*pieces[:4], pieces[4].conj()], 2.0)
    assert back.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, -20]
    squares = sum(float(p.detach().abs().square().sum()) for p in module.parameters())
    assert selection.norm() == pytest.approx(squares**0.5)
    assert selection.blocks(["odd", "even"])["even"].tolist() == [9, 10]
    (note,) = selection.notes
    assert "3 of the parameters' numbers are complex: each counts as two" in note
    assert not note.qualifies


def test_the_hessian_over_selected_parameters_is_a_block_of_the_whole() -> None:
    whole = hard.measure(hard.seeded(lambda: hard.mlp()))
    part = hard.measure(hard.seeded(lambda: hard.mlp()), parameters=["network.2.*"])
    assert part.names == ("network.2.weight", "network.2.bias")
    torch.testing.assert_close(part.matrix, whole.matrix[25:, 25:])
    assert part.gradient.equal(whole.gradient[25:])


def test_parameters_that_the_loss_ignores_are_named_and_zero() -> None:
    measured = hard.measure(hard.seeded(hard.WithUnused))
    assert measured.unused == ("network.never.weight", "network.never.bias")
    assert measured.matrix[15:].eq(0).all()
    assert measured.matrix[:, 15:].eq(0).all()
    assert measured.gradient[15:].eq(0).all()


def test_blocks_by_patterns_are_positions_in_the_flat_vector_and_may_overlap() -> None:
    selection = ParameterSelection.of(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
    blocks = selection.blocks(["1.*", "*.bias", "0.weight"])
    assert {name: block.tolist() for name, block in blocks.items()} == {
        "1.*": [9, 10, 11, 12],
        "*.bias": [6, 7, 8, 12],
        "0.weight": [0, 1, 2, 3, 4, 5],
    }
    flat = torch.cat([p.detach().reshape(-1) for p in selection.tensors])
    biases = torch.cat([selection.tensors[1], selection.tensors[3]])
    assert flat[blocks["*.bias"]].equal(biases)


class Nested(nn.Module):
    """A parameter of its own, before and after those of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
        self.shift = nn.Parameter(torch.zeros(1))


def test_blocks_by_modules_are_a_partition_under_the_modules_names() -> None:
    selection = ParameterSelection.of(Nested())
    blocks = selection.blocks("modules")
    assert {name: len(block) for name, block in blocks.items()} == {
        "scale": 2,
        "shift": 1,
        "body.0": 6,
        "body.2": 3,
    }
    assert torch.cat(list(blocks.values())).sort().values.equal(torch.arange(12))


def test_a_tied_parameter_is_in_the_blocks_that_any_of_its_names_matches() -> None:
    selection = ParameterSelection.of(hard.Tied())
    assert selection.blocks(["first.*"])["first.*"].tolist() == list(range(16))
    assert selection.blocks(["second.*"])["second.*"].tolist() == list(range(16))
    assert list(selection.blocks("modules")) == ["first"]


@pytest.mark.parametrize(
    ("patterns", "reason"),
    [
        (
            ["1.*", "head.*"],
            "`parameter_blocks` must match .* 'head.*' matches none. Names .* 1.we",
        ),
        (["0.*"], "'0.*' matches none"),
    ],
)
def test_a_block_of_nothing_selected_is_refused(patterns: list[str], reason: str) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    with pytest.raises(RefusedError, match=reason):
        ParameterSelection.of(module, ["1.*"]).blocks(patterns)


def test_a_block_that_is_not_trained_has_no_positions_yet() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    selection = ParameterSelection.of(module)
    assert selection.idle == (("0.weight",), ("0.bias",))
    found = selection.blocks(["0.*", "1.*"])
    assert {name: block.tolist() for name, block in found.items()} == {
        "0.*": [],
        "1.*": [0, 1, 2, 3],
    }
    # by its name alone a parameter that is not asked for is none
    asked = ParameterSelection.of(module, ["1.*"])
    assert asked.idle == ()
    with pytest.raises(RefusedError, match=r"'0\.\*' matches none"):
        asked.blocks(["0.*"])

"""torchrl: a loss of temporal differences on tensor dictionaries."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchrl.modules import QValueActor
from torchrl.objectives import DQNLoss, ValueEstimators

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule

DRAWN = torch.Generator().manual_seed(0)
STATES, REWARDS = torch.randn(24, 2, 3, generator=DRAWN), torch.randn(24, 1, generator=DRAWN)
ACTIONS = torch.arange(24) % 2
ENDS = torch.zeros(24, 1, dtype=torch.bool)
MOVES = TensorDict(
    {
        "observation": STATES[:, 0],
        "action": ACTIONS,
        "next": {"observation": STATES[:, 1], "reward": REWARDS, "done": ENDS, "terminated": ENDS},
    },
    batch_size=[24],
)


def batch_loss(objective: Any, batch: Any) -> Tensor:
    """Of a batch of moves."""
    return objective(batch)["loss"]


def stacked(rows: Any) -> Any:
    """A batch as it is: the package's own dictionaries are batches already."""
    return rows if isinstance(rows, TensorDict) else torch.stack(rows)


def train(callbacks: list[Any]) -> OwnModule:
    """Values of two actions; the target network is a copy that does not move."""
    values = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    actor = QValueActor(values, in_keys=["observation"], action_space="categorical")
    objective = DQNLoss(actor, action_space="categorical", delay_value=True)
    objective.make_value_estimator(ValueEstimators.TD0, gamma=0.9)
    loader = DataLoader(MOVES, batch_size=8, shuffle=True, collate_fn=stacked)
    return OwnModule(objective, batch_loss).fitted(loader, callbacks)


def loss(module: OwnModule) -> Tensor:
    """Squared distance of the value of each action taken from what it led to."""
    live = dict(module.network.value_network_params.flatten_keys(".").items())
    target = dict(module.network.target_value_network_params.flatten_keys(".").items())

    def values(states: Tensor, weights: dict[str, Tensor]) -> Tensor:
        first, second = "module.0.module.0", "module.0.module.2"
        hidden = states @ weights[f"{first}.weight"].T + weights[f"{first}.bias"]
        return hidden.tanh() @ weights[f"{second}.weight"].T + weights[f"{second}.bias"]

    rows = STATES.double()
    led_to = REWARDS[:, 0].double() + 0.9 * values(rows[:, 1], target).max(1).values.detach()
    return nn.functional.mse_loss(values(rows[:, 0], live)[range(24), ACTIONS], led_to)


CASE = Case("Q-learning on tensor dictionaries", train, loss)

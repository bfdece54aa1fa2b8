"""The Hessian of a reinforcement-learning objective: minus the expected return, -E[R].

REINFORCE on the 4 x 3 grid world of Russell and Norvig. Its surrogate, log-probabilities times
returns, has the gradient of -E[R] but not its Hessian: the episodes come from the policy, which
the surrogate does not know. With p the probability of an episode's actions, the second term of

    d2 E[R] = E[R d2 log p] + E[R (d log p) (d log p)^T]

is missing in it. So ``hessian_loss`` returns the DiCE estimator, whose derivatives of any order are
right in expectation: each reward times ``exp(log p - stop_gradient(log p))``, with p of the actions
up to it. What is measured is its mean over episodes rolled out from the policy of the moment, by
the same random numbers each time: an unbiased estimate of the Hessian of -E[R]. The world is small
enough for dynamic programming, so the exact values are printed beside the measured ones.

A second table is about the point: which kind it is, what is left of the gradient within 1 % of the
weights, the share of negative eigenvalues, and how far Adam is from its edge of stability, which
here is that of the mean over all episodes, where a step takes the gradient of 256.

The measured ones are exact for these episodes; that there are finitely many is the sampling error.
It is estimated, too, and is largest for a good policy, whose curvature comes from rare episodes.
The self-check notes that differences of gradients are something else: they do not see what the
stopped gradient is there for.

Run it from the repository: ``python examples/reinforcement_learning.py --out runs/grid_world``.

References:
    J. Foerster et al. (2018), "DiCE: The infinitely differentiable Monte Carlo estimator",
    arXiv:1802.05098, eq. (4).
    S. Russell, P. Norvig, "Artificial Intelligence", section 17.1 (the world).
"""

from __future__ import annotations

import argparse
import copy
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.utils.data import DataLoader, Dataset

from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, Loss
from lightning_hessian.show import critical_point_history_figure, spectrum_figure
from lightning_hessian.studies import stability_edge

HORIZON = 12
EVERY = 200
WIDTH, HEIGHT = 4, 3
WALL, GOAL, PIT, START = (1, 1), (3, 2), (3, 1), (0, 0)
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))


class GridWorld(nn.Module):
    """Goal +1, pit -1, each move -0.04; a move goes astray to either side in a tenth of cases."""

    def __init__(self) -> None:
        super().__init__()
        cells = [(x, y) for x in range(WIDTH) for y in range(HEIGHT)]
        number = {cell: i for i, cell in enumerate(cells)}
        moves = torch.zeros(len(cells), len(MOVES), len(cells))
        arrival = torch.full((len(cells),), -0.04)
        arrival[number[GOAL]], arrival[number[PIT]] = 1.0, -1.0
        rewards = arrival.repeat(len(cells), 1)
        for cell, i in number.items():
            for action in range(len(MOVES)):
                for turn, share in ((0, 0.8), (1, 0.1), (-1, 0.1)):
                    dx, dy = MOVES[(action + turn) % len(MOVES)]
                    there = number.get((cell[0] + dx, cell[1] + dy), i)
                    ends = cell in (GOAL, PIT)
                    moves[i, action, i if ends or there == number[WALL] else there] += share
        rewards[[number[GOAL], number[PIT]]] = 0.0
        self.start = number[START]
        self.register_buffer("moves", moves)
        self.register_buffer("rewards", rewards)
        self.register_buffer("cells", torch.eye(len(cells)))

    def expected_return(self, policy: Tensor) -> Tensor:
        """Exact, from the probabilities ``(states, actions)`` of a policy, backwards in time."""
        value = torch.zeros_like(self.rewards[0])
        for _ in range(HORIZON):
            of_moves = (self.moves * (self.rewards[:, None] + value)).sum(-1)
            value = (policy * of_moves).sum(-1)
        return value[self.start]


class Noise(Dataset[Tensor]):
    """Uniform numbers that decide an episode, new ones each time; a fixed seed fixes them."""

    def __init__(self, episodes: int) -> None:
        self.episodes = episodes

    def __len__(self) -> int:
        return self.episodes

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(HORIZON, 2)


class Reinforce(pl.LightningModule):
    """A small network chooses the actions."""

    def __init__(self, hidden: int = 6) -> None:
        super().__init__()
        self.world = GridWorld()
        self.policy = nn.Sequential(
            nn.Linear(WIDTH * HEIGHT, hidden), nn.Tanh(), nn.Linear(hidden, len(MOVES))
        )

    def log_policy(self) -> Tensor:
        """``(states, actions)``."""
        return self.policy(self.world.cells).log_softmax(-1)

    @torch.no_grad()
    def roll_out(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the (state, action) pairs met, and rewards, ``(episodes, HORIZON)`` each."""
        policy = self.log_policy().exp()
        states = torch.full((len(noise),), self.world.start, device=noise.device)
        pairs, rewards = [], []
        for uniform in noise.unbind(dim=1):
            actions = _draw(policy[states], uniform[:, 0])
            arrived = _draw(self.world.moves[states, actions], uniform[:, 1])
            pairs.append(states * len(MOVES) + actions)
            rewards.append(self.world.rewards[states, arrived])
            states = arrived
        return torch.stack(pairs, dim=1), torch.stack(rewards, dim=1)

    def training_step(self, noise: Tensor, batch_idx: int) -> Tensor:
        """REINFORCE: the rewards to come, less their mean, weigh the log-probabilities."""
        pairs, rewards = self.roll_out(noise)
        to_come = rewards.flip(1).cumsum(1).flip(1)
        self.log("return", to_come[:, 0].mean())
        weights = to_come - to_come.mean(0)
        return -(self.log_policy().flatten()[pairs] * weights).sum(1).mean()

    def hessian_loss(self, noise: Tensor, batch_idx: int) -> Tensor:
        """DiCE: minus the mean return, with all derivatives of its expectation."""
        pairs, rewards = self.roll_out(noise)
        past = self.log_policy().flatten()[pairs].cumsum(1)
        return -((past - past.detach()).exp() * rewards).sum(1).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def _draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """By the inverse of the cumulated probabilities."""
    bounds = probabilities.cumsum(-1)
    return (bounds / bounds[:, -1:] <= uniform[:, None]).sum(-1)


def exact_hessian(module: Reinforce) -> Tensor:
    """``(n, n)`` float64: of -E[R] at the present policy."""
    world, policy = copy.deepcopy(module.world).double(), copy.deepcopy(module.policy).double()
    parameters = list(policy.parameters())
    names, sizes = [n for n, _ in policy.named_parameters()], [p.numel() for p in parameters]

    def objective(flat: Tensor) -> Tensor:
        parts = zip(names, flat.split(sizes), parameters, strict=True)
        weights = {name: part.view(p.shape) for name, part, p in parts}
        logits = functional_call(policy, weights, (world.cells,))
        return -world.expected_return(logits.softmax(-1))

    return jacrev(jacrev(objective))(nn.utils.parameters_to_vector(parameters).detach())


def sampling_error(module: Reinforce, direction: Tensor, episodes: int) -> float:
    """Standard error of the curvature along a direction over so many episodes, from 16 parts."""
    parameters = list(module.policy.parameters())
    generator = torch.Generator().manual_seed(1)
    curvatures = []
    for _ in range(16):
        noise = torch.rand(episodes // 16, HORIZON, 2, generator=generator)
        gradient = torch.autograd.grad(module.hessian_loss(noise, 0), parameters, create_graph=True)
        slope = nn.utils.parameters_to_vector(gradient) @ direction
        second = torch.autograd.grad(slope, parameters)
        curvatures.append(nn.utils.parameters_to_vector(second) @ direction)
    return float(torch.stack(curvatures).std()) / 16**0.5


def exact_sharpness(optimizer: torch.optim.Optimizer, hessian: Tensor) -> float:
    """The largest eigenvalue as the optimiser's steps see it; ``nan`` before its first step."""
    parameters = optimizer.param_groups[0]["params"]
    if not optimizer.state:
        return math.nan
    roots = stability_edge(optimizer, parameters).steps.sqrt()
    return float(torch.linalg.eigvalsh(roots[:, None] * hessian * roots)[-1])


@dataclass(frozen=True)
class Row:
    """What dynamic programming says of a policy: its return, its eigenvalues, and more.

    ``error`` is the sampling error of the largest eigenvalue.
    """

    expected: float
    values: Tensor
    error: float
    sharpness: float


class Exact(pl.Callback):
    """What dynamic programming says at the start and after each epoch."""

    def __init__(self, episodes: int) -> None:
        self.episodes = episodes
        self.rows: list[Row] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Reinforce) -> None:
        """Add a row."""
        policy, hessian = pl_module.log_policy().detach().exp(), exact_hessian(pl_module)
        values, vectors = torch.linalg.eigh(hessian)
        self.rows.append(
            Row(
                expected=float(pl_module.world.expected_return(policy)),
                values=values,
                error=sampling_error(pl_module, vectors[:, -1].float(), self.episodes),
                sharpness=exact_sharpness(trainer.optimizers[0], hessian),
            )
        )

    on_train_epoch_end = on_train_start


def print_table(hessian: HessianSpectrum, exact: Exact) -> None:
    """One line an epoch, exact and measured side by side; "+-" is the sampling error."""
    print(
        f"{'':>5} {'E[return]':>16} {'largest eigenvalue':>26} {'smallest':>17} {'trace':>17} "
        f"{'negative':>13}\n{'step':>5} {'exact':>8} {'sample':>7} {'exact':>9} {'measured':>16} "
        f"{'exact':>8} {'measured':>8} {'exact':>8} {'measured':>8} {'share':>13}"
    )
    for report, row in zip(hessian.reports, exact.rows, strict=True):
        (low, high), values = report.negative_mass.bracket, row.values
        print(
            f"{report.global_step:>5} {row.expected:>8.3f} {-report.loss:>7.3f} "
            f"{values[-1]:>9.3f} {report.largest.values[0]:>7.3f} +- {row.error:.3f} "
            f"{values[0]:>8.3f} {report.smallest.values[0]:>8.3f} "
            f"{values.sum():>8.3f} {report.trace.value:>8.3f} {low:>5.2f} to {high:.2f}"
        )


def print_points(point: CriticalPoint, hessian: HessianSpectrum, exact: Exact) -> None:
    """One line an epoch: the kind of point, its index, and the edge, exact and measured."""
    print(
        f"\n{'':>5} {'':<15} {'gradient left':>13} {'negative share':>17} {'as Adam sees it':>19}\n"
        f"{'step':>5} {'kind':<15} {'within 1 %':>13} {'exact':>8} {'measured':>8} "
        f"{'exact':>9} {'measured':>9}  margin"
    )
    rows = zip(point.reports, hessian.reports, exact.rows, strict=True)
    for report, beside, row in rows:
        count, edge = report.indices[0], beside.edge
        share = float((row.values < -count.threshold).double().mean())
        told = ("", "") if edge is None else (f"{edge.sharpness:.3f}", f"{edge.margin:.1f}")
        of_adam = "" if math.isnan(row.sharpness) else f"{row.sharpness:.3f}"
        print(
            f"{report.global_step:>5} {report.kind:<15} {report.gradient_left:>13.2f} "
            f"{share:>8.3f} {count.fraction:>8.3f} {of_adam:>9} {told[0]:>9}  {told[1]:>6}"
        )
    print(f"\n{point.reports[-1].verdict}\n{hessian.reports[-1].edge.verdict}")


def main() -> None:
    """Train, print what was measured beside what is exact, save the spectra."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/grid_world"), help="for figures")
    parser.add_argument("--epochs", type=int, default=6, help="number of epochs")
    parser.add_argument("--episodes", type=int, default=16384, help="in each epoch")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
    options.out.mkdir(parents=True, exist_ok=True)

    pl.seed_everything(0)
    count = options.episodes
    loss = Loss(batch_size=count, precision=64)
    hessian = HessianSpectrum(edge=True, num_samples=count, max_overhead=None, loss=loss)
    # as many products as parameters: all eigenvalues are counted
    point = CriticalPoint(
        num_samples=count, max_overhead=None, loss=loss, solver=Krylov(max_hvps=EVERY)
    )
    exact = Exact(count)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        callbacks=[hessian, point, exact],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    ).fit(Reinforce(), DataLoader(Noise(count), batch_size=256))
    print(f"\n{hessian.reports[-1].num_parameters} parameters, {count:,} episodes\n")
    print_table(hessian, exact)
    print_points(point, hessian, exact)
    for note in hessian.reports[-1].notes:
        print(f"note: {note}")
    for name, report in (("start", hessian.reports[0]), ("end", hessian.reports[-1])):
        spectrum_figure(report).savefig(options.out / f"spectrum_at_{name}.png")
        print(f"saved {options.out / f'spectrum_at_{name}.png'}")
    critical_point_history_figure(point.reports).savefig(options.out / "kind_of_point.png")
    print(f"saved {options.out / 'kind_of_point.png'}")


if __name__ == "__main__":
    main()

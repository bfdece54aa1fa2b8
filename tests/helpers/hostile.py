"""A module, a data set and a data module that leave traces wherever user code can."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

WIDTH = 5


@dataclass(slots=True)
class Innermost:
    """State in slots, which `vars()` does not show."""

    calls: int = 0
    losses: list[float] = field(default_factory=list)


class Helper:
    """State two objects below the module, and a log function that was handed on."""

    def __init__(self, log: Any) -> None:
        self.inner, self.log = Innermost(), log
        self.table = {"last": np.zeros(2)}

    def note(self, loss: float) -> None:
        self.inner.calls += 1
        self.inner.losses.append(loss)
        self.table["last"][self.inner.calls % 2] = loss
        self.log("helper", loss)


def counting_hook(seen: Counter[str]) -> Any:
    """A forward hook whose state lives in its closure only, part of it by `nonlocal`."""
    calls = 0

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal calls
        calls += 1
        seen[f"call {calls % 3}"] += 1

    return hook


class LoggingChild(pl.LightningModule):
    """A LightningModule inside another, which logs for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        self.log("child/mean", outputs.mean(), on_step=True, on_epoch=True)
        return outputs


class HostileModule(pl.LightningModule):
    """Changes everything that a training step can reach, and its loss depends on most of it."""

    def __init__(
        self,
        *,
        stop_at_step: int | None = None,
        compiled: bool = False,
        optimizer: str = "adam",
        noise: float = 0.01,
    ) -> None:
        super().__init__()
        self.noise = noise
        self.stop_at_step, self.optimizer = stop_at_step, optimizer
        body = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
        self.body = torch.compile(body, backend="eager") if compiled else body
        self.norm, self.frozen_norm = nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.dropout, self.child = nn.Dropout(30 * noise), LoggingChild()
        self.child.log = self.log  # Lightning lets only the outermost module log by itself
        self.head, self.teacher = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3)
        self.teacher.requires_grad_(False)
        self.register_buffer("queue", torch.ones(4, WIDTH))
        self.register_buffer("centre", torch.zeros(3))
        self.anchor, self.leaf = torch.ones(WIDTH, requires_grad=True), torch.ones(2)
        self.metric = MeanMetric()
        self.outputs: list[Tensor] = []
        self.recent: deque[float] = deque(maxlen=3)
        self.seen: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.history: OrderedDict[int, float] = OrderedDict()
        self.helper, self.calls, self.hook_calls = Helper(self.log), 0, 0
        self.kept: Tensor | None = None
        self.kept_gradients: list[Tensor] = []
        self.torch_generator = torch.Generator().manual_seed(1)
        self.numpy_generator, self.numpy_legacy = np.random.default_rng(2), np.random.RandomState(3)
        self.python_generator = random.Random(4)
        self.sobol = torch.quasirandom.SobolEngine(2, scramble=True, seed=5)
        self.head.register_forward_hook(counting_hook(Counter()))
        self.head.weight.register_hook(self._halve_and_count)
        self.head.bias.register_post_accumulate_grad_hook(self._count)

    def _halve_and_count(self, gradient: Tensor) -> Tensor:
        self.hook_calls += 1
        return gradient / 2

    def _count(self, parameter: Tensor) -> None:
        self.hook_calls += 1

    def _quasi_random(self, like: Tensor) -> Tensor:
        return self.sobol.draw(1, dtype=torch.float32).sum().to(like)

    def on_train_epoch_start(self) -> None:
        self.frozen_norm.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.kept is not None:  # a graph from the step before, over a buffer of that time
            self.kept_gradients.append(torch.autograd.grad(self.kept, self.anchor)[0])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.dropout.train(batch_idx % 2 == 0)
        x, y = batch["x"], batch["y"]
        x *= batch.pop("scale")[:, None]
        x += self.noise * torch.from_numpy(self.numpy_generator.normal(size=x.shape)).to(x)
        x += self.noise * (self.numpy_legacy.uniform() + self.python_generator.random())
        x += self.noise * (np.random.random() + random.random())  # noqa: NPY002
        x += self.noise * self._quasi_random(x)
        hidden = self.child(self.dropout(self.norm(self.body(x))))
        hidden = self.frozen_norm(self.spectral(hidden)) + self.queue.mean(0).to(x)
        logits = self.head(hidden) - self.centre.to(x)
        with torch.no_grad():
            target = self.teacher(hidden).softmax(-1)
        loss = F.cross_entropy(logits, y) + 0.1 * F.mse_loss(logits.softmax(-1), target)
        loss = loss * (1 + 0.01 * self.global_step + 0.1 * self.current_epoch)
        self._leave_traces(loss.detach(), hidden.detach(), logits.detach(), batch_idx)
        return loss

    def _leave_traces(self, loss: Tensor, hidden: Tensor, logits: Tensor, batch_idx: int) -> None:
        self.calls += 1
        # the graph of this line is used a step later, and saves a view of the queue as it is now
        self.queue[self.calls % 4] = hidden.mean(0).to(self.queue)
        self.kept = (self.anchor.to(self.queue) * self.queue[0]).sum()
        self.centre = 0.9 * self.centre + 0.1 * logits.mean(0).to(self.centre)
        for teacher, student in zip(self.teacher.parameters(), self.head.parameters(), strict=True):
            teacher.data.mul_(0.9).add_(0.1 * student.data)
        self.teacher.bias.data = self.teacher.bias.data + 0.01
        self.leaf.requires_grad_(not self.leaf.requires_grad)
        value = float(loss)
        self.outputs.append(loss)
        self.recent.append(value)
        self.seen.add(self.calls % 7)
        self.counts[f"batch {batch_idx}"] += 1
        self.history[self.calls] = value
        self.history.move_to_end(min(self.history))
        self.helper.note(value)
        if self.head.bias.grad is not None:
            self.helper.table["gradient"] = self.head.bias.grad.float().numpy().copy()
            self.head.bias.grad.mul_(0.9)
            self.head.weight.grad = self.head.weight.grad * 0.9
        for group in self.optimizers().param_groups:
            group["lr"] *= 0.999
        if self.global_step == self.stop_at_step:
            self.trainer.should_stop = True
        self.trainer.mark = self.calls
        with self.trainer.profiler.profile("hostile"):
            self._log_everywhere(loss)

    def _log_everywhere(self, loss: Tensor) -> None:
        self.metric.update(loss.float())
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log_dict({"calls": float(self.calls), "metric": self.metric})
        if self.logger is not None:
            self.logger.experiment.add_scalar("user/direct", loss.float(), self.calls)
            self.logger.log_metrics({"user/metrics": float(loss)}, step=self.calls)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        logits = self.head(self.norm(self.body(batch["x"])))
        self.log("val_loss", F.cross_entropy(logits, batch["y"]))

    def configure_optimizers(self) -> Any:
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class HostileDataset(Dataset[dict[str, Any]]):
    """Augments, counts, caches, and draws from generators of its own and of all the world."""

    def __init__(self, count: int = 16) -> None:
        self.count, self.fetched = count, 0
        self.order: list[int] = []
        self.cache = torch.zeros(count)
        self.torch_generator = torch.Generator().manual_seed(6)
        self.numpy_generator = np.random.default_rng(7)
        fixed = torch.Generator().manual_seed(8)
        self.inputs = torch.randn(count, WIDTH, generator=fixed)
        self.targets = torch.randint(3, (count,), generator=fixed)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.fetched += 1
        self.order.append(index)
        self.cache[index] += torch.rand((), generator=self.torch_generator)
        shift = float(self.numpy_generator.normal()) + random.gauss(0, 1)
        shift += np.random.normal()  # noqa: NPY002
        inputs = self.inputs[index] + 0.1 * torch.randn(WIDTH) + 0.01 * shift + self.cache[index]
        return {"x": inputs, "y": self.targets[index], "scale": torch.tensor(1.5)}


class HostileCollate:
    """Mixes samples by random numbers of its own, and counts."""

    def __init__(self) -> None:
        self.generator, self.batches = np.random.default_rng(9), 0

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        self.batches += 1
        weight = float(self.generator.uniform())
        batch = {key: torch.stack([s[key] for s in samples]) for key in samples[0]}
        batch["x"] = batch["x"] + 0.1 * weight * batch["x"].flip(0)
        return batch


class HostileData(pl.LightningDataModule):
    """Hostile data behind hostile collation; further options go to the training loader."""

    def __init__(self, batch_size: int = 4, noise: float = 0.01, **options: Any) -> None:
        super().__init__()
        self.noise = noise
        self.batch_size, self.options = batch_size, options
        self.train_set, self.val_set = HostileDataset(), HostileDataset(4)
        self.collate, self.transfers = HostileCollate(), 0
        self.python_generator = random.Random(10)

    def train_dataloader(self) -> DataLoader[Any]:
        defaults = {"batch_size": self.batch_size, "shuffle": "sampler" not in self.options}
        return DataLoader(self.train_set, collate_fn=self.collate, **(defaults | self.options))

    def val_dataloader(self) -> DataLoader[Any]:
        self.transfers += 100
        return DataLoader(self.val_set, batch_size=4)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.transfers += 1
        x, generator = batch["x"], self.trainer.lightning_module.torch_generator
        x += self.noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x += self.noise * self.python_generator.random()
        return batch

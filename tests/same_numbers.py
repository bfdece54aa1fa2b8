"""Every number of a fixed set of fits, to the last bit, so that two versions can be compared.

``python -m tests.same_numbers write OUT.json`` runs the fits and writes every field of every report
and every scalar that was logged. ``python -m tests.same_numbers compare BEFORE.json AFTER.json``
prints where two such files differ, and ends with an error if they do. A BEFORE whose reports are
flat (format version 1) is compared with the flattened AFTER, by ``tests.same_numbers_paths``.
Times, memory and paths are of the occasion, and left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_hessian import (
    HessianSpectrum,
    Krylov,
    Loss,
    LossDifference,
    Perturbations,
    PyHessian,
    Surface,
    analyze,
)
from tests.helpers.processes import ddp_trainer, in_processes
from tests.same_numbers_paths import flattened

OF_THE_OCCASION = {
    "seconds",
    "overhead",
    "gradient_seconds",
    "ckpt_path",
    "graph_bytes",
    "format_version",
}
Numbers = dict[str, Any]


class Recorder(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int | None, dict[str, float]]] = []

    name = "recorder"
    version = 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep a copy."""
        self.points.append((step, dict(metrics)))


class Module(pl.LightningModule):
    """A network under a cross-entropy loss, by plain SGD."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Any) -> Tensor:
        """Mean over the samples of a batch."""
        inputs, targets = batch
        return F.cross_entropy(self.network(inputs), targets)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss."""
        return self.loss(batch)

    def val_dataloader(self) -> DataLoader[Any]:
        """Samples that are not trained on."""
        return DataLoader(data(20, seed=9), batch_size=7)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing."""

    def configure_optimizers(self) -> Any:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ByHand(Module):
    """Two losses of two optimisers, stepped on by hand."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Two losses."""
        for factor, optimizer in zip((1.0, 0.5), self.optimizers(), strict=True):
            loss = factor * self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        """One for each layer."""
        return [torch.optim.SGD(self.network[i].parameters(), lr=0.1) for i in (0, 2)]


class Contrastive(Module):
    """Of pairs of samples: no sample has a loss of its own."""

    def loss(self, batch: Any) -> Tensor:
        """Similarity of the samples of a batch."""
        outputs = self.network(batch[0])
        return (outputs @ outputs.T).logsumexp(dim=1).mean()


class Once(torch.autograd.Function):
    """A cube without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Cube."""
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Its derivative."""
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class OnceLayer(nn.Module):
    """Applies it."""

    def forward(self, x: Tensor) -> Tensor:
        """Cube of a small number."""
        return Once.apply(0.5 * x)


class Recurrent(nn.Module):
    """An LSTM over the features."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(2, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """From two steps of two features each."""
        return self.head(self.cell(x.view(len(x), 2, 2))[0][:, -1])


class Attending(nn.Module):
    """A self-attention block over four tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(1, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Each feature is a token."""
        tokens = self.up(x[..., None])
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))


class Tied(nn.Module):
    """Tied, frozen and unused parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)
        self.first.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Through the tied layers."""
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Stream(IterableDataset[Any]):
    """Samples without positions."""

    def __iter__(self) -> Iterator[Any]:
        return iter(data(26))


def mlp() -> nn.Module:
    """Smooth."""
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def relu() -> nn.Module:
    """With kinks, and large enough for narrow blocks to matter."""
    return nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


def noisy() -> nn.Module:
    """Batch statistics and dropout."""
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3)
    )


def convolutional() -> nn.Module:
    """Images of 2 x 2."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 3, 2, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 3),
    )


def data(count: int = 26, seed: int = 7) -> TensorDataset:
    """Gaussian inputs with random labels."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    return TensorDataset(inputs, torch.randint(3, (count,), generator=generator))


def loader(dataset: Any = None, **options: Any) -> DataLoader[Any]:
    """In batches of eight, a rest at the end."""
    return DataLoader(dataset or data(), **({"batch_size": 8} | options))


def weigh(batch: Any) -> float:
    """A weight that is no number of samples."""
    return 1.0 + float((batch[1] == 1).sum())


def spectrum(**options: Any) -> HessianSpectrum:
    """All that is due; a failure is an error unless told otherwise."""
    return HessianSpectrum(**({"max_overhead": None, "on_error": "raise"} | options))


def difference(**options: Any) -> LossDifference:
    """All that is due; a failure is an error unless told otherwise."""
    return LossDifference(**({"max_overhead": None, "on_error": "raise"} | options))


def quiet(*callbacks: pl.Callback, logger: Any = False, **options: Any) -> pl.Trainer:
    """Writes nothing."""
    return pl.Trainer(
        **(
            {
                "accelerator": "cpu",
                "max_epochs": 2,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
            }
            | options
        ),
        callbacks=list(callbacks),
        logger=logger,
    )


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The same weights each time."""
    torch.manual_seed(0)
    return make()


def fitted(make: Callable[[], Any], *callbacks: Any, train: Any = None, **options: Any) -> Numbers:
    """Reports and scalars of one fit."""
    module = seeded(make)
    if not isinstance(module, pl.LightningModule):
        module = Module(module)
    logger = Recorder()
    quiet(*callbacks, logger=logger, **options).fit(module, loader() if train is None else train)
    return {
        "reports": [report.to_dict() for each in callbacks for report in each.reports],
        "scalars": logger.points,
    }


def everything_of_losses() -> LossDifference:
    """All that the loss difference can be asked for."""
    return difference(
        thresholds=[1e-2, 1e-3],
        num_orders=20,
        samples_per_step=3,
        sample_sizes=6,
        held_out=True,
        keep_losses=True,
        derivatives=True,
        hessian_differences=2,
        perturbations=Perturbations(sigmas=[0.01, 0.1], count=4, subspace=2),
        surface=Surface(directions="eigenvectors", points=3),
        loss=Loss(batch_size=3),
    )


def two_processes(make: Callable[[], Any]) -> Numbers:
    """What both of two processes hold."""

    def part(_: int) -> list[Any]:
        callback = make()
        ddp_trainer(callback, max_epochs=1).fit(Module(seeded(noisy)), loader())
        return [report.to_dict() for report in callback.reports]

    first, second = in_processes(part, seconds=240)
    return {"reports": [*first, *second], "scalars": []}


def checkpointed() -> Numbers:
    """A fit with checkpoints, its resumption, the files beside them, and their analysis."""
    with tempfile.TemporaryDirectory() as folder:
        made = [spectrum(at_checkpoints=True), difference(at_checkpoints=True)]
        saver = ModelCheckpoint(dirpath=folder, every_n_train_steps=3, save_top_k=-1)
        first = quiet(*made, saver, enable_checkpointing=True)
        first.fit(Module(seeded(mlp)), loader())
        files = sorted(str(path) for path in Path(folder).glob("*.ckpt"))
        beside = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        again = [spectrum(at_checkpoints=True), difference(at_checkpoints=True)]
        quiet(*again, max_epochs=3).fit(Module(seeded(mlp)), loader(), ckpt_path=files[-1])
        analyzed = [
            report
            for callback in (spectrum(), difference())
            for report in analyze(
                Module(seeded(mlp)),
                folder,
                dataloaders=loader(),
                callback=callback,
                trainer=quiet(),
                sidecar=False,
                verbose=False,
            )
        ]
    reports = [r for each in (*made, *again) for r in each.reports] + analyzed
    return {
        "reports": [report.to_dict() for report in reports] + beside,
        "scalars": [],
    }


CASES: dict[str, Callable[[], Numbers]] = {
    "defaults": lambda: fitted(mlp, spectrum(), difference()),
    "relu": lambda: fitted(relu, spectrum(num_smallest=2), difference(held_out=True)),
    "train mode": lambda: fitted(noisy, spectrum(mode="train")),
    "batch norm": lambda: fitted(noisy, spectrum(num_samples=20, loss=Loss(batch_size=4))),
    "convolutions": lambda: fitted(convolutional, spectrum(), difference()),
    "lstm": lambda: fitted(Recurrent, spectrum(num_samples="all")),
    "attention": lambda: fitted(Attending, spectrum()),
    "tied": lambda: fitted(Tied, spectrum(num_eigenvalues=3)),
    "blocks, overlaps": lambda: fitted(
        relu, spectrum(parameter_blocks="modules", eigenvalues_per_block=2, overlaps=True)
    ),
    "named blocks": lambda: fitted(
        mlp, spectrum(parameter_blocks=["network.0.*", "*.bias"], trace=True, density=False)
    ),
    "sampling errors": lambda: fitted(
        relu,
        spectrum(num_samples=60, loss=Loss(batch_size=4)),
        train=loader(data(200)),
        max_epochs=1,
    ),
    "growing sample": lambda: fitted(
        mlp,
        spectrum(num_samples="auto", solver=Krylov(sampling_rtol=0.2)),
        train=loader(data(2600), batch_size=16),
        max_epochs=1,
    ),
    "float64": lambda: fitted(mlp, spectrum(loss=Loss(precision=64))),
    "few numbers": lambda: fitted(
        relu,
        spectrum(trace=False, density=False, num_smallest=0, solver=Krylov(rtol=1e-4)),
        spectrum(num_eigenvalues=0, num_smallest=0, density=False, name="trace"),
    ),
    "widths and tolerances": lambda: fitted(
        relu,
        spectrum(
            solver=Krylov(probes_per_block=1, max_hvps=60, trace_rtol=0.01, density_rtol=1e-2)
        ),
        spectrum(solver=Krylov(probes_per_block=3, max_hvps=24), name="wide"),
    ),
    "differences": lambda: fitted(
        mlp, spectrum(loss=Loss(products="finite_difference"), solver=Krylov(max_hvps=40))
    ),
    "differences in float32": lambda: fitted(
        relu,
        spectrum(
            loss=Loss(products="finite_difference", precision=32),
            solver=Krylov(max_hvps=20),
            on_error="warn",
        ),
        max_epochs=1,
    ),
    "no second derivative": lambda: fitted(
        lambda: nn.Sequential(nn.Linear(4, 5), OnceLayer(), nn.Linear(5, 3)),
        spectrum(solver=Krylov(max_hvps=40)),
        difference(derivatives=True, loss=Loss(batch_size=3)),
        max_epochs=1,
    ),
    "bfloat16": lambda: fitted(relu, spectrum(solver=Krylov(precision="bfloat16"))),
    "fast float32": lambda: fitted(relu, spectrum(solver=Krylov(precision="fast_float32"))),
    "little memory": lambda: fitted(
        relu, spectrum(solver=Krylov(memory_limit=1.2e-4, max_hvps=120))
    ),
    "pyhessian": lambda: fitted(
        mlp, spectrum(solver=PyHessian(eigenvalues_maxIter=20, trace_maxIter=20, density_iter=12))
    ),
    "all of losses": lambda: fitted(relu, everything_of_losses()),
    "random surface": lambda: fitted(
        mlp, difference(surface=Surface(directions="random", points=3), sample_sizes=[1, 5, 25])
    ),
    "parameters and weights": lambda: fitted(
        relu,
        spectrum(loss=Loss(parameters=["network.2.*", "network.4.*"], weight_fn=weigh)),
        spectrum(loss=Loss(dataloader=loader(data(18, seed=3), batch_size=5)), name="given"),
    ),
    "by hand": lambda: fitted(ByHand, spectrum(loss=Loss(which=1)), difference(loss=Loss(which=0))),
    "a stream": lambda: fitted(
        mlp, spectrum(num_samples=20), difference(num_samples=12), train=loader(Stream())
    ),
    "refused": lambda: fitted(lambda: Contrastive(mlp()), spectrum(), difference(on_error="warn")),
    "gradients accumulated": lambda: fitted(
        noisy,
        spectrum(mode="train", every_n_train_steps=1, solver=Krylov(max_hvps=16)),
        accumulate_grad_batches=2,
        precision="bf16-mixed",
        max_epochs=1,
    ),
    "trial run": lambda: fitted(mlp, spectrum(), fast_dev_run=True),
    "two processes, spectrum": lambda: two_processes(lambda: spectrum(num_samples=24)),
    "two processes, losses": lambda: two_processes(
        lambda: difference(derivatives=True, loss=Loss(batch_size=3))
    ),
    "checkpoints": checkpointed,
}


def exact(value: Any) -> Any:
    """Floats by their bits, everything else as it is."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def write(path: Path, names: list[str]) -> None:
    """Run the fits."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    for name in names or CASES:
        print(name, file=sys.stderr, flush=True)
        found[name] = exact(CASES[name]())
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in OF_THE_OCCASION and key.rpartition("/")[2] not in OF_THE_OCCASION:
                yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        # what JSON has no number for
        yield path, "nan" if value is None else value


def as_before(before: Any, after: Any) -> Any:
    """What was measured after, in the form of what was measured before."""
    first = next(iter(before.values()))["reports"][0]
    if "largest" in first or "differences" in first:
        return after
    flat = {}
    for case, numbers in after.items():
        reports = [exact(flattened(report)) for report in numbers["reports"]]
        flat[case] = {**numbers, "reports": reports}
    return flat


def compare(before: Any, after: Any) -> tuple[int, list[str]]:
    """How many values there are, and a line for each that differs."""
    count, differing = 0, []
    after = as_before(before, after)
    for case in before.keys() | after.keys():
        old, new = (dict(leaves(each.get(case, {}))) for each in (before, after))
        count += len(new)
        for path in sorted(old.keys() | new.keys()):
            if old.get(path, "nothing") != new.get(path, "nothing"):
                differing.append(
                    f"{case}: {path}: {old.get(path, 'nothing')} -> {new.get(path, 'nothing')}"
                )
    return count, differing


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="run the fits")
    writing.add_argument("path", type=Path)
    writing.add_argument("names", nargs="*", help="of the fits; all when none is given")
    comparing = commands.add_parser("compare", help="compare two files")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "write":
        write(options.path, options.names)
        return
    files = (json.loads(p.read_text(encoding="utf8")) for p in (options.before, options.after))
    count, differing = compare(*files)
    print("\n".join(differing))
    print(f"{count:,} values compared, {len(differing)} differ")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()

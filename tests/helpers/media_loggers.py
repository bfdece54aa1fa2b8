"""Loggers that keep what they are told, of any kind and of those that take pictures and pages."""

from __future__ import annotations

from functools import partialmethod
from types import SimpleNamespace
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class Recording(Logger):
    """Keeps rows of numbers and media, as ``(row, step)``."""

    def __init__(self, experiment: Any = None) -> None:
        super().__init__()
        self.experiment = experiment
        self.rows: list[tuple[dict[str, Any], int | None]] = []

    @property
    def name(self) -> str:
        return "recording"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Not of interest."""

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.rows.append((dict(metrics), step))

    def values(self, key: str) -> list[tuple[int | None, Any]]:
        """Step and value of what was logged under a key."""
        return [(step, row[key]) for row, step in self.rows if key in row]


class Client:
    """Keeps the calls of its methods, ``(name, arguments, options)``."""

    fails = False

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def keep(self, name: str, /, *arguments: Any, **options: Any) -> None:
        if self.fails:
            raise ConnectionError(f"{name}: no route to host")
        self.calls.append((name, arguments, options))


def client(*names: str, fails: bool = False) -> Client:
    """Of a class that has these methods."""
    methods = {name: partialmethod(Client.keep, name) for name in names}
    kind: type[Client] = type("Client", (Client,), {**methods, "fails": fails})
    return kind()


def wandb_logger() -> Recording:
    """As of W&B, whose run has no part in what goes through the logger."""
    return Recording(client("define_metric", "log"))


def mlflow_logger(**options: Any) -> Recording:
    """As of MLflow, whose client is told the run each time."""
    logger = Recording(client("log_batch", "log_image", "log_text", **options))
    logger.run_id = "run 7"  # type: ignore[attr-defined]
    return logger


def comet_logger(**options: Any) -> Recording:
    """As of Comet."""
    names = ("log_histogram_3d", "log_image", "log_asset_data", "log_text")
    return Recording(client(*names, **options))


def wandb_module() -> SimpleNamespace:
    """What is used of the package: classes that keep what they are made of."""
    return SimpleNamespace(
        Image=lambda image: ("image", image),
        Html=lambda page, **options: ("html", page, options),
        Histogram=lambda *, np_histogram: ("histogram", np_histogram),
    )

"""Which loggers take more than numbers, and giving it to each, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from lightning.pytorch.loggers import Logger

from lightning_hessian.show.media.comet import CometTaker
from lightning_hessian.show.media.mlflow import MlflowTaker
from lightning_hessian.show.media.taker import Taker
from lightning_hessian.show.media.weights_and_biases import WandbTaker

KINDS: tuple[type[WandbTaker] | type[MlflowTaker] | type[CometTaker], ...] = (
    WandbTaker,
    MlflowTaker,
    CometTaker,
)


def takers(loggers: Sequence[Logger]) -> Iterator[tuple[Logger, Taker]]:
    """Loggers that take more than numbers, of whichever namespace, told by what they log to."""
    for logger in loggers:
        for kind in KINDS:
            if kind.is_of(logger):
                yield logger, kind(logger)


def give_each(loggers: Sequence[Logger], give: Callable[[Taker], None]) -> dict[Logger, Exception]:
    """Give something to each that takes more than numbers; those that failed, with the reason."""
    failed: dict[Logger, Exception] = {}
    for logger, taker in takers(loggers):
        try:
            give(taker)
        except Exception as error:
            failed[logger] = error
    return failed


def raise_first(failed: Mapping[Logger, Exception], what: str) -> None:
    """Raise the first failure, with the logger's kind.

    Raises:
        RuntimeError: If there is one.
    """
    for logger, error in failed.items():
        kind = type(logger).__name__
        raise RuntimeError(f"{kind} {what} ({type(error).__name__}: {error})") from error

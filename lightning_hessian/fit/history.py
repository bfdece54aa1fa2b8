"""The reports of a callback as the state that travels in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_warn

from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.records import Report

VERSION = 2
R = TypeVar("R", bound=Report)


def save_history(
    reports: Sequence[Report], measured_at: Fingerprint | None, settings: str
) -> dict[str, Any]:
    """Put a callback's history into primitives, which ``torch.load(weights_only=True)`` reads."""
    return {
        "version": VERSION,
        "reports": [report.to_dict() for report in reports],
        "measured_at": None if measured_at is None else list(measured_at),
        "settings": settings,
    }


def load_history(
    state: Mapping[str, Any], kind: type[R], settings: str
) -> tuple[list[R], Fingerprint | None]:
    """Read what :func:`save_history` wrote; nothing, with a warning, from a version not known here.

    Where the callback was told other settings, the weights in the checkpoint count as not yet
    measured.
    """
    if state.get("version") != VERSION:
        rank_zero_warn(
            f"The checkpoint holds a history of Hessian reports in version {state.get('version')}, "
            f"and only version {VERSION} is known: the history begins anew. Load it with the "
            "lightning_hessian that wrote it."
        )
        return [], None
    reports = [kind.from_dict(values) for values in state["reports"]]
    where = state["measured_at"]
    return reports, tuple(where) if where and state["settings"] == settings else None

"""The reports of a callback as the state that travels in a checkpoint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.records import Report, read_record

VERSION = 3
MOST_REPORTS = 400
"""That travel: the first, the latest half of them, and of those between evenly many."""
NUM_WHOLE = 10
"""Latest reports that keep what is bulky, such as densities."""
COUNTS = (
    "cost",
    "epoch",
    "global_step",
    "num_hvps",
    "num_parameters",
    "num_samples",
    "num_skipped",
)
R = TypeVar("R", bound=Report)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What the pace has to know of reports that travel no more.

    Attributes:
        count: Of those with numbers.
        cost: Of these, in sample gradients.
    """

    count: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History(Generic[R]):
    """What a callback knows of the earlier parts of a fit.

    Attributes:
        reports: In order.
        left_out: Those that are not among them.
        measured_at: The weights measured last; None if they count as not yet measured.
        study: What the study remembers of the last report.
        has_other_settings: Whether it was made by other options.
    """

    reports: list[R] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    measured_at: Fingerprint | None = None
    study: Mapping[str, Any] = field(default_factory=dict)
    has_other_settings: bool = False


def save_history(history: History[R], settings: str) -> dict[str, Any]:
    """Put a history into primitives, which ``torch.load(weights_only=True)`` reads.

    At most :data:`MOST_REPORTS` travel, and of these the latest :data:`NUM_WHOLE` as a whole.
    """
    kept = _kept(len(history.reports))
    among = set(kept)
    gone = _counted(report for i, report in enumerate(history.reports) if i not in among)
    texts: dict[str, str] = {}
    chosen = [history.reports[i] for i in kept]
    return {
        "version": VERSION,
        "reports": [
            _shared(report.to_dict(), texts)
            for report in [*map(_light, chosen[:-NUM_WHOLE]), *chosen[-NUM_WHOLE:]]
        ],
        "left_out": {
            "count": history.left_out.count + gone.count,
            "cost": history.left_out.cost + gone.cost,
        },
        "measured_at": None if history.measured_at is None else list(history.measured_at),
        "settings": settings,
        "study": dict(history.study),
    }


def load_history(state: Any, kind: type[R], settings: str) -> History[R]:
    """Read what :func:`save_history` wrote, and nothing else.

    Where the callback was told other settings, the weights in the checkpoint count as not yet
    measured.

    Raises:
        ValueError: If anything in it is not as it was written; the text says what.
    """
    version = state.get("version") if isinstance(state, Mapping) else None
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"it is in version {version if type(version) is int else None}, and only version "
            f"{VERSION} is known here. Load it with the lightning_hessian that wrote it."
        )
    rest = {key: value for key, value in state.items() if key not in ("reports", "study")}
    around = read_record(_Around, rest, is_whole=True)
    _check_counts("left_out", around.left_out, ("count", "cost"))
    given, study = state.get("reports"), state.get("study")
    if not isinstance(given, list) or not isinstance(study, Mapping):
        raise ValueError("it must hold a list of `reports`, and what the `study` remembers.")
    reports = [_read(given[i], kind, i) for i in _kept(len(given))]
    gone = len(given) - len(reports)
    return History(
        reports=reports,
        left_out=LeftOut(count=around.left_out.count + gone, cost=around.left_out.cost),
        measured_at=around.measured_at if around.settings == settings else None,
        study=study,
        has_other_settings=around.settings != settings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """The state without its reports and what the study remembers."""

    version: int
    left_out: LeftOut
    measured_at: tuple[int, ...] | None
    settings: str


def _read(values: Any, kind: type[R], number: int) -> R:
    try:
        report = kind.from_dict(values, is_whole=True)
        _check_counts("report", report, COUNTS)
    except Exception as error:  # of records whose numbers do not belong together too
        raise ValueError(f"report {number} of it is not one: {error}") from error
    return report


def _check_counts(name: str, record: object, counts: Sequence[str]) -> None:
    """What the pace counts on."""
    for each in counts:
        count = getattr(record, each)
        if not 0 <= count < math.inf:
            raise ValueError(f"`{each}` of `{name}` must be finite and not negative, got {count}.")


def _kept(count: int) -> list[int]:
    """Which of so many reports travel."""
    if count <= MOST_REPORTS:
        return list(range(count))
    latest = MOST_REPORTS // 2
    early, places = count - latest, MOST_REPORTS - latest
    return [place * early // places for place in range(places)] + list(range(early, count))


def _counted(reports: Iterable[Report]) -> LeftOut:
    made = [report.cost for report in reports if report.failure is None]
    return LeftOut(count=len(made), cost=sum(made))


def _light(report: R) -> R:
    """Without what is bulky."""
    defaults: dict[str, Any] = {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(report)
        if f.name in report.bulky
    }
    return dataclasses.replace(report, **defaults)


def _shared(value: Any, texts: dict[str, str]) -> Any:
    """The same, every text that is said again being one object, which a file holds once."""
    if isinstance(value, str):
        return texts.setdefault(value, value)
    if isinstance(value, list):
        return [_shared(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: _shared(item, texts) for key, item in value.items()}
    return value

"""Who takes part, with which settings: named functions from a workload and a seed to an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from examples.benchmarks import (
    in_fit,
    ours,
    settings,
    with_curvlinops,
    with_eigenthings,
    with_pyhessian,
)
from examples.benchmarks.answers import Answer
from examples.benchmarks.workloads import Workload

Run = Callable[[Workload, int], Answer]

MODULES = {
    "PyHessian": "pyhessian",
    "eigenthings": "hessian_eigenthings",
    "curvlinops": "curvlinops",
}
PEERS: dict[str, Callable[..., Answer]] = {
    "PyHessian": with_pyhessian.run,
    "eigenthings": with_eigenthings.run,
    "curvlinops": with_curvlinops.run,
}
SETS = ("equal", "one run", "five runs", "defaults", "hand-tuned", "bulk")


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of a table.

    Attributes:
        name: Which library, and in which way.
        run: The whole report.
    """

    name: str
    run: Run


def contenders(which: str, workload: str) -> list[Contender]:
    """Those of a set on a workload, ours first; peers that are not installed are left out.

    Args:
        which: One of ``SETS``. ``equal``: each quantity by its own call, at the cheapest settings
            that reach the accuracy. ``one run``: the eigenvalues read off the density's run, which
            takes a user who knows that they are there. ``defaults``: nothing given. ``hand-tuned``:
            short runs of eigenthings. ``bulk``: densities of one probe and 80 steps, ours as well.
            ``five runs``: the peers' densities of five probes and 80 steps each, beside ``ours``.
        workload: Its name.
    """
    if which == "defaults":
        first = Contender("ours, defaults", _ours(ours.OurSettings()))
    elif which == "bulk":
        first = Contender("ours, 1 x 80", _ours(settings.OURS_LONG[workload]))
    else:
        first = Contender("ours", _ours(settings.OURS[workload]))
    fits = [
        Contender("the callback, first of a fit", in_fit.run),
        Contender("the callback, later", partial(in_fit.run, moment="end")),
    ]
    fits = fits if which in ("equal", "defaults") else []
    return [first, *fits, *(Contender(n, r) for n, r in _peers(which, workload) if _is_there(n))]


def missing() -> list[str]:
    """Peers that are not installed."""
    return [name for name in MODULES if not _is_there(name)]


def load() -> None:
    """Import the peers, which would otherwise be part of the first one's time."""
    for name, module in MODULES.items():
        if _is_there(name):
            import_module(module)


def _is_there(name: str) -> bool:
    return find_spec(MODULES[name.split(",")[0]]) is not None


def _ours(chosen: ours.OurSettings) -> Run:
    return partial(ours.run, settings=chosen)


def _peers(which: str, workload: str) -> list[tuple[str, Run]]:
    if which == "defaults":
        return [(n, partial(PEERS[n], **given)) for n, given in settings.DEFAULTS.items()]
    if which == "hand-tuned":
        return [("eigenthings", partial(PEERS["eigenthings"], **settings.HAND_TUNED))]
    found = settings.EQUAL[workload]
    if which == "one run":
        # without reorthogonalisation, curvlinops finds an eigenvalue several times
        one_run = settings.ONE_RUN[workload]
        return [(n, partial(PEERS[n], **(found[n] | given))) for n, given in one_run.items()]
    nothing: dict[str, settings.Settings] = {name: {} for name in PEERS}
    longer = {"bulk": settings.LONG, "five runs": settings.MANY}.get(which, nothing)
    lines = [(n, partial(PEERS[n], **(found[n] | longer[n]))) for n in PEERS]
    own = found["curvlinops"] | longer["curvlinops"] | {"kept": False}
    return [*lines[:2], ("curvlinops, its operator", partial(PEERS["curvlinops"], **own)),
            ("curvlinops, kept graph", lines[2][1])]  # fmt: skip

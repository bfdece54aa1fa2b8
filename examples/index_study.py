"""Does the index of critical points follow their energy, as random matrices have it?

The experiment of Pennington and Bahri, "Geometry of neural network loss surfaces via random matrix
theory" (2017): the share ``alpha`` of negative eigenvalues against the energy ``epsilon``, half the
mean squared error, at critical points of a small tanh network that learns random targets by heart.
Here at points that are critical beyond doubt: saddles that searches for an index found, and minima
of narrower networks, made wider by dead units; beside points that pass for critical by the paper's
own criterion, a squared norm of the gradient below 1e-6, and are none, and points on the way down.

Then, at which energy are minima? The paper says ``(1 - phi)^2 / 2``, approximately.

Run it from the repository: ``python -m examples.index_study --config configs/index.yaml``; what is
not in the file, or given beside it, is as ``--help`` says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from examples.band_claims import Floats
from examples.index_claims import OF_THEORY, PowerLaw, is_enough, power_law, theory_at
from examples.index_figures import Gathered, index_figure, pairs
from examples.index_minimisers import Minimisers, minimisers
from examples.index_points import IndexPoint, distinct
from examples.index_problem import Task
from examples.index_saddles import embedded_saddles
from examples.index_searches import search, small_gradients
from examples.index_tables import (
    correlation_table,
    gradients_line,
    how_many,
    law_table,
    minimum_table,
    outcomes_line,
)

QUICK = {
    "size": 4,
    "samples": 16,
    "starts": 24,
    "undecayed_starts": 2,
    "narrow_seeds": 1,
    "gradients": 6,
    "gradient_steps": 60,
    "max_hvps": 1500,
    "minimum_size": 4,
    "minimum_samples": [16],
    "minimum_hvps": 500,
}
"""What ``--quick`` does instead."""
SEARCHED = "saddles, searched"


def gather(task: Task, options: Namespace) -> Gathered:
    """All points, and a line for each way to them."""
    decay, none = options.weight_decay, 0.0
    limits = {"max_hvps": options.max_hvps}
    embedded, of_none = (
        _critical(embedded_saddles(task, decay=each, seeds=options.narrow_seeds))
        for each in (decay, none)
    )
    print(f"embedded: {len(embedded)} distinct, without weight decay {len(of_none)}", flush=True)
    with_decay = search(task, decay=decay, seeds=options.starts, **limits)
    searched = _critical(with_decay.ends)
    name = f"searches, weight decay {decay:g}"
    print(outcomes_line(name, with_decay.outcomes, searched), flush=True)
    without = search(task, decay=none, seeds=options.undecayed_starts, **limits)
    found = _critical(without.ends)
    print(outcomes_line("searches, no weight decay", without.outcomes, found), flush=True)
    small = small_gradients(task, decay=none, seeds=options.gradients, steps=options.gradient_steps)
    print(gradients_line(small), flush=True)
    return Gathered(
        ratio=task.ratio,
        searched=searched,
        embedded=embedded,
        undecayed=distinct([*of_none, *found]),
        fakes=[each for each in small if each.is_fake],
        starts=with_decay.starts,
    )


def _critical(points: list[IndexPoint]) -> list[IndexPoint]:
    return distinct([each for each in points if each.is_critical])


def groups(points: Gathered) -> dict[str, Floats]:
    """Energies and indices of each kind of point."""
    return {
        SEARCHED: pairs(points.searched),
        "saddles, embedded": pairs(points.embedded),
        "saddles, both": pairs(distinct([*points.searched, *points.embedded])),
        "fakes": pairs(points.fakes),
        "starts, on descents": pairs(points.starts),
    }


def fitted(points: Gathered, limits: Sequence[float]) -> dict[str, Floats]:
    """Energies and indices that power laws are fitted to: all, and those of small indices."""
    found = {name: each for name, each in groups(points).items() if not name.startswith("starts")}
    below = {
        f"{name}, below {limit:g}": each[each[:, 1] < limit]
        for limit in limits
        for name, each in found.items()
    }
    return {name: each for name, each in (found | below).items() if is_enough(each)}


def curves(samples: Mapping[str, Floats], ratio: float) -> dict[str, Floats]:
    """The theory's own energies at the indices of searched saddles."""
    return {
        f"theory at those of {name}": theory_at(each[:, 1], ratio)
        for name, each in samples.items()
        if name.startswith(SEARCHED)
    }


def minima(options: Namespace) -> list[Minimisers]:
    """Of each number of samples, without weight decay and with it."""
    found = []
    for samples, decay in product(options.minimum_samples, (0.0, options.weight_decay)):
        found.append(
            minimisers(
                options.minimum_size,
                samples,
                decay=decay,
                tasks=options.minimum_tasks,
                max_hvps=options.minimum_hvps,
            )
        )
    return found


def shown(
    laws: Mapping[str, PowerLaw], fixed: Mapping[str, PowerLaw], small: float
) -> dict[str, PowerLaw]:
    """The fits that are drawn, by their names in the legend."""
    few, drawn = f"{SEARCHED}, below {small:g}", {}
    if SEARCHED in laws:
        drawn[rf"all, $\beta$ = {laws[SEARCHED].exponent.value:.2f}"] = laws[SEARCHED]
    if few in laws:
        drawn[rf"$\alpha$ < {small:g}, $\beta$ = {laws[few].exponent.value:.2f}"] = laws[few]
        drawn[rf"$\alpha$ < {small:g}, $\beta$ = 3/2"] = fixed[few]
    return drawn


def save(
    points: Gathered,
    numbers: dict[str, Any],
    drawn: dict[str, PowerLaw],
    found: list[Minimisers],
    out: Path,
) -> None:
    """The figure, and the numbers."""
    out.mkdir(parents=True, exist_ok=True)
    index_figure(points, drawn, found).savefig(out / "index.png", dpi=90)
    kinds = {
        name: [each.to_dict() for each in getattr(points, name)]
        for name in ("searched", "embedded", "undecayed", "fakes", "starts")
    }
    content = {"ratio": points.ratio, "points": kinds, **numbers}
    (out / "study.json").write_text(json.dumps(content))
    print(f"saved {out}/index.png, study.json")


def parser() -> ArgumentParser:
    """Of the command line, and of files with the same settings."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", action="config", help="YAML with any of these")
    parser.add_argument("--out", type=Path, default=Path("runs/index_study"))
    parser.add_argument("--size", type=int, default=6, help="inputs, hidden units and outputs")
    parser.add_argument("--samples", type=int, default=24, help="phi is 2 size / samples")
    parser.add_argument("--task", type=int, default=3, help="seed of inputs and targets")
    parser.add_argument("--weight-decay", type=float, default=0.003)
    parser.add_argument("--starts", type=int, default=100, help="of searches, with weight decay")
    parser.add_argument("--undecayed-starts", type=int, default=24, help="and without")
    parser.add_argument("--max-hvps", type=int, default=10_000, help="of each search")
    parser.add_argument("--narrow-seeds", type=int, default=6, help="for each narrower width")
    parser.add_argument("--gradients", type=int, default=100, help="descents of |g|")
    parser.add_argument("--gradient-steps", type=int, default=150, help="of each")
    parser.add_argument("--small-indices", type=float, nargs="+", default=[0.15, 0.1])
    parser.add_argument("--minimum-size", type=int, default=12, help="of networks for minima")
    parser.add_argument("--minimum-samples", type=int, nargs="+", default=[96, 48, 36])
    parser.add_argument("--minimum-tasks", type=int, default=3)
    parser.add_argument("--minimum-hvps", type=int, default=12_000, help="of each search")
    parser.add_argument("--quick", action="store_true", help="a few of each, to see it run")
    return parser


def main() -> None:
    """Search, fit, print tables and verdicts, save."""
    options = parser().parse_args()
    for name, value in (QUICK if options.quick else {}).items():
        options[name] = value
    torch.set_num_threads(1)
    start = time.process_time()
    task = Task.drawn(options.size, options.samples, options.task)
    print(f"{task.num_parameters} parameters, phi = {task.ratio:.3g}\n", flush=True)
    points = gather(task, options)
    samples = fitted(points, options.small_indices)
    laws = {name: power_law(each) for name, each in samples.items()}
    fixed = {name: power_law(each, exponents=OF_THEORY) for name, each in samples.items()}
    of_theory = {name: power_law(e) for name, e in curves(samples, task.ratio).items()}
    print(f"\n{correlation_table(groups(points))}\n\n{law_table(laws, fixed, of_theory)}\n")
    print(how_many(sum(each.index > 0 for each in points.searched)))
    found = minima(options)
    print(f"\n{minimum_table(found)}\n\n{time.process_time() - start:.0f} s of CPU")
    numbers = {
        "laws": {name: asdict(law) for name, law in laws.items()},
        "laws_of_three_halves": {name: asdict(law) for name, law in fixed.items()},
        "minima": [each.to_dict() for each in found],
    }
    save(points, numbers, shown(laws, fixed, options.small_indices[0]), found, options.out)


if __name__ == "__main__":
    main()

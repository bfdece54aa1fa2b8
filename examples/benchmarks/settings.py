"""What each contender is asked with.

``EQUAL`` holds, for each workload, the cheapest settings of each peer that reach the accuracy asked
for (``answers.py``), as ``peers.py --tune`` finds them (``tuning.py`` says how).
Whatever keeps the gradient's graph does so: that is the cheaper product for all of them.
"""

from __future__ import annotations

from typing import Any

import torch

from examples.benchmarks.ours import OurSettings

OURS: dict[str, OurSettings] = {
    name: OurSettings(estimator={"rtol": 0.01, "probes_per_block": 1, "max_hvps": 400})
    for name in ("W1", "W2", "W3", "W4")
}
"""Residual bounds of 1 % are reached when the values are right to a thousandth and better."""

PRODUCTS: dict[str, OurSettings] = {
    "recomputed": OurSettings(products={"graph_memory": 0}),
    "kept": OurSettings(),
    "kept, fast float32": OurSettings(sandbox={"fast_float32": True}),
    "bfloat16, recomputed": OurSettings(products={"autocast": torch.bfloat16, "graph_memory": 0}),
    "bfloat16, kept": OurSettings(products={"autocast": torch.bfloat16}),
}
"""Ways to make a product that ``product_cost.py`` compares: one line for each option."""

OURS_LONG: dict[str, OurSettings] = {
    name: OurSettings(
        estimator={"rtol": 1e-12, "trace_rtol": 0.5, "max_hvps": 80 + 8, "probes_per_block": 1}
    )
    for name in OURS
}
"""One probe for 80 steps: the resolution of the bulk that a peer's run of 80 steps has."""

Settings = dict[str, Any]

EQUAL: dict[str, dict[str, Settings]] = {
    "W1": {
        "PyHessian": {"kept": True, "tol": 1e-4, "probes": 57, "steps": 36, "max_iter": 1000},
        "eigenthings": {
            "kept": True,
            "steps": 28,
            "trace": {"method": "hutch++", "num_matvecs": 21},
            "density": {"num_runs": 1, "lanczos_steps": 29},
        },
        "curvlinops": {
            "kept": True,
            "ends": (("BE", 10),),
            "eigsh_options": {"tol": 0.1, "ncv": 30},
            "trace": ("xtrace", 20),
            "steps": 29,
        },
    },
    "W2": {
        "PyHessian": {"kept": True, "tol": 1e-4, "probes": 47, "steps": 47, "max_iter": 1000},
        "eigenthings": {
            "kept": True,
            "steps": 50,
            "trace": {"method": "hutch++", "num_matvecs": 24},
            "density": {"num_runs": 1, "lanczos_steps": 10},
        },
    },
}

ONE_RUN: dict[str, dict[str, Settings]] = {
    "W1": {
        "PyHessian": {"tol": None, "steps": 36},
        "eigenthings": {"steps": None, "density": {"num_runs": 1, "lanczos_steps": 36}},
    },
    "W2": {
        "PyHessian": {"tol": None, "steps": 47},
        "eigenthings": {"steps": None, "density": {"num_runs": 1, "lanczos_steps": 50}},
    },
}
"""What differs from ``EQUAL`` where the eigenvalues are read off the density's run."""

DEFAULTS: dict[str, Settings] = {
    "PyHessian": {"kept": False, "tol": 1e-3, "probes": None, "steps": 100},
    "eigenthings": {"kept": False, "steps": None, "both_ends": False, "density": {}, "trace": {}},
    # it has no default for the numbers of products: those of a run of the others
    "curvlinops": {
        "kept": False,
        "ends": (("LA", 5), ("SA", 1)),
        "eigsh_options": {},
        "trace": ("hutchpp", 99),
        "steps": 80,
        "boundaries": False,
    },
}
"""As they come: as many calls as it takes to have all quantities, nothing else given."""

HAND_TUNED: Settings = {
    "kept": True,
    "steps": 25,
    "density": {"num_runs": 1, "lanczos_steps": 40},
    "trace": {"num_matvecs": 30},
}
"""hessian-eigenthings by one who knows it: few steps, whatever accuracy that gives."""

LONG: dict[str, Settings] = {
    "PyHessian": {"steps": 80},
    "eigenthings": {"density": {"num_runs": 1, "lanczos_steps": 80}},
    "curvlinops": {"steps": 80},
}
"""What differs from ``EQUAL`` for one density run of 80 steps."""

MANY: dict[str, Settings] = {
    "PyHessian": {"steps": 80, "runs": 5},
    "eigenthings": {"density": {"num_runs": 5, "lanczos_steps": 80}},
    "curvlinops": {"steps": 80, "runs": 5},
}
"""And for five of them, which is nearer to our density's accuracy."""

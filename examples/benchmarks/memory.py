"""Peak memory of one contender, in a process of its own.

``ru_maxrss`` is a high-water mark: the child loads a network that is trained already, so that no
step of training hides what the contender takes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.benchmarks.contenders import Contender, load
from examples.benchmarks.workloads import Workload

UNIT = 2**20 if sys.platform == "darwin" else 2**10
"""Of ``ru_maxrss`` in a MiB: bytes on macOS, KiB on Linux."""


def peak_memory(workload: Workload, contender: Contender, threads: int) -> float:
    """MiB over what the network, the data and the libraries take.

    Args:
        workload: What is measured.
        contender: Who measures.
        threads: Of torch.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workload.pt"
        torch.save((workload, contender), path)
        child = [sys.executable, "-m", __name__, str(path), str(threads)]
        output = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])


def main() -> None:
    """Print the MiB that a contender's run adds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load()
    workload, contender = torch.load(options.path, weights_only=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with sdpa_kernel(SDPBackend.MATH):
        contender.run(workload, 0)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / UNIT)


if __name__ == "__main__":
    main()

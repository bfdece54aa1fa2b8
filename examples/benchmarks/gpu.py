"""What the callback costs on a GPU, and whether it finds there what it finds on the CPU.

Run it from the repository, on a machine with a GPU: ``python -m examples.benchmarks.gpu``. It
prints five tables: products in gradients; default reports; trainings with and without the
callback, beside its price; how often the host waits for the GPU; the report of the GPU against
that of the CPU. ``--parts`` makes some of them only, ``--data`` adds the trainings whose data is in
files (``fits.py`` says which). With ``--device cpu`` it makes what has a meaning without a GPU.
"""

from __future__ import annotations

import argparse
import logging
import platform
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset

from examples.benchmarks.fits import FITS
from examples.benchmarks.gpu_products import print_products, print_waits
from examples.benchmarks.gpu_trainings import (
    COMPARED_SAMPLES,
    compare,
    print_prices,
    print_reports,
    print_truth,
)
from examples.benchmarks.workloads import build

PARTS = ("products", "trainings", "waits", "truth")
NO_GPU = """\
torch finds no GPU. Run this on a machine that has one, with a build of torch for it, where
`python -c "import torch; print(torch.version.cuda)"` prints a version; or give `--device cpu` to
make what has a meaning without a GPU."""


def parse() -> argparse.Namespace:
    """Options, checked against the machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to make")
    parser.add_argument("--data", type=Path, help="folder of the trainings whose data is in files")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--times", type=int, nargs="+", default=[1, 8], help="how much larger to make the batches"
    )
    parser.add_argument("--quick", action="store_true", help="small and once, to check the program")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(NO_GPU)
    names, options.fits = ["W2", "W3", "W4"], list(FITS)
    if options.data is None:
        options.fits = [fit for fit in FITS if not fit.needs_folder]
    if options.quick:
        names, options.repetitions, options.times = ["W1"], 1, [1]
        options.fits = [replace(FITS[0], epochs=1, batch_size=COMPARED_SAMPLES, data=_few_digits)]
    has_networks = "products" in options.parts or "waits" in options.parts
    options.workloads = [build(name) for name in names] if has_networks else []
    return options


def _few_digits(folder: Path | None) -> Subset[tuple[Tensor, ...]]:
    # one batch of them: a product takes a moment
    return Subset(FITS[0].data(folder), range(COMPARED_SAMPLES))


def quiet() -> None:
    """No word of Lightning's, and no advice that a benchmark ignores on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for pattern in (
        ".*create_graph=True will create a reference cycle.*",
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*logging interval.*",
        ".*GPU available but not used.*",
    ):
        warnings.filterwarnings("ignore", pattern)


def main() -> None:
    """Print the tables."""
    options = parse()
    quiet()
    device, parts, repetitions = options.device, options.parts, options.repetitions
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(
        f"{name}; torch {torch.__version__}, CUDA {torch.version.cuda}, Lightning "
        f"{version('lightning')}, Python {platform.python_version()}; medians of {repetitions}"
    )
    if "products" in parts:
        print_products(options.workloads, device, times=options.times, repetitions=repetitions)
    if "trainings" in parts:
        found = {
            fit.name: compare(fit, options.data, device, repetitions=repetitions)
            for fit in options.fits
        }
        print_reports(found, device)
        print_prices(found)
    if "waits" in parts:
        print_waits(options.workloads, device)
    if "truth" in parts:
        print_truth(options.fits, options.data, device)


if __name__ == "__main__":
    main()

"""What only TensorBoard can show: our tab, the density over training, figures, a page of charts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lightning_hessian.records import SpectralDensity
from lightning_hessian.show.charts import Charts
from lightning_hessian.tab import PLUGIN_NAME

NUM_BUCKETS = 64
SYMLOG_UNIT = 1e-3
NARROWEST = 1e-12


def tensorboard_loggers(loggers: Sequence[Logger]) -> Iterator[Logger]:
    """Those whose ``experiment`` is a TensorBoard writer, of whichever namespace."""
    return (
        logger
        for logger in loggers
        if hasattr(getattr(logger, "experiment", None), "add_histogram_raw")
    )


@contextmanager
def added_whole(experiment: Any) -> Iterator[None]:
    """What is added inside is in the event file at the end, or the user's writer is as before.

    A writer keeps an error of its thread, such as that of a full disk, and raises it whenever it is
    used from then on, by whomever. Where it was ours, the file is cut off where it ended before,
    and the writer begins another, as it does after being closed.
    """
    experiment.flush()  # what fails here was added before, and is the user's own to see
    sizes = _sizes_of_event_files(experiment)
    try:
        yield
        experiment.flush()
    except Exception:
        if _is_broken(experiment):
            for path, size in sizes.items():
                if path.stat().st_size > size:
                    os.truncate(path, size)
            experiment.file_writer = experiment.all_writers = None
        raise


def _sizes_of_event_files(experiment: Any) -> dict[Path, int]:
    """Of those that this process writes into the log directory, if that is a folder."""
    folder = str(experiment.get_logdir())
    found = Path(folder).glob(f"*.tfevents.*.{os.getpid()}.*") if "://" not in folder else ()
    return {path: path.stat().st_size for path in found}


def _is_broken(experiment: Any) -> bool:
    try:
        experiment.flush()
    except Exception:
        return True
    return False


def write_entry(experiment: Any, content: bytes, *, tag: str, step: int) -> None:
    """Write what the Hessian tab shows of a report, as a tensor that other tabs leave alone."""
    tensor = TensorProto(
        dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto(dim=[])
    )
    metadata = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME),
        data_class=DATA_CLASS_TENSOR,
    )
    value = Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
    # of a dummy, as in a `fast_dev_run`, everything is a function that does nothing
    if hasattr(experiment.file_writer, "add_summary"):
        experiment.file_writer.add_summary(Summary(value=[value]), step)


def write_density(
    experiment: Any, density: SpectralDensity, *, tags: tuple[str, ...], size: int, step: int
) -> None:
    """Write the density as two native histograms: over the eigenvalue, and over its symlog.

    A linear axis is ruled by the outliers; ``u = sign(x) log10(1 + |x| / 0.001)`` opens the bulk.
    Counts are numbers of eigenvalues. Each node is spread over about one bucket.
    """
    symlog = density.nodes.sign() * torch.log10(1 + density.nodes.abs() / SYMLOG_UNIT)
    for tag, positions in zip(tags, (density.nodes, symlog), strict=True):
        edges, masses = _buckets(positions, density.weights)
        counts = masses * size
        centres = 0.5 * (edges[1:] + edges[:-1])
        experiment.add_histogram_raw(
            tag,
            min=float(edges[0]),
            max=float(edges[-1]),
            num=size,
            sum=float(counts @ centres),
            sum_squares=float(counts @ centres.square()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )


def write_layout(log_dir: str, *, prefix: str, title: str, charts: Charts) -> None:
    """Lay out a Custom Scalars page.

    TensorBoard keeps one layout for each run and merges those of all runs. Ours stands in a
    sub-run of its own, so that a layout of the user's stays.
    """
    with SummaryWriter(str(Path(log_dir) / prefix)) as writer:
        writer.add_custom_scalars({f"{prefix}: {title}": charts})


def _buckets(positions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Edges ``(m + 1,)`` and the masses ``(m,)`` between them, all mass inside."""
    low, high = float(positions[0]), float(positions[-1])
    width = (high - low) / (NUM_BUCKETS - 6)
    largest = max(abs(low), abs(high))
    if width <= NARROWEST * largest:
        # one value, or as good as one: edges this near to each other would fall together
        width = (largest or 1.0) / NUM_BUCKETS
    centre = 0.5 * (low + high)
    steps = torch.arange(NUM_BUCKETS + 1, dtype=torch.float64) - NUM_BUCKETS / 2
    edges = centre + width * steps
    cumulative = torch.special.ndtr((edges[:, None] - positions) / (0.5 * width)) @ weights
    masses = cumulative.diff()
    return edges, masses / masses.sum()

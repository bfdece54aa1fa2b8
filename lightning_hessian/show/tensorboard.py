"""TensorBoard's writers among the loggers, and what is written by them whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from lightning_hessian.tab import PLUGIN_NAME


def tensorboard_loggers(loggers: Sequence[Logger]) -> Iterator[Logger]:
    """Those whose ``experiment`` is a TensorBoard writer, of whichever namespace."""
    # the class is asked: of a dummy, as in a `fast_dev_run`, every attribute is there
    return (
        logger
        for logger in loggers
        if hasattr(type(getattr(logger, "experiment", None)), "add_histogram_raw")
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
    experiment.file_writer.add_summary(Summary(value=[value]), step)

"""The Custom Scalars page, in the run's own event file and beside a layout of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import fsspec
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout
from torch.utils.tensorboard.summary import custom_scalars

from lightning_hessian.show.charts import Charts

TAG = b"custom_scalars__config__"
LARGEST = 256 * 2**20
"""Bytes of event files that are looked through for a layout, in about as many milliseconds."""
HEAD, TAIL = 12, 4
"""Of a record: its length and a checksum, and another checksum behind."""


def lay_out(experiment: Any, *, title: str, charts: Charts) -> None:
    """Write a page of charts behind those that the run has already.

    TensorBoard shows the layout of a run that was written last, and merges those of all runs. So
    ours holds what is there of the user's, and one that the user writes later takes its place.
    Where there is more in the folder than can be looked through, nothing is written.

    Args:
        experiment: A TensorBoard writer, flushed, that has written into its folder.
        title: Of the category.
        charts: In it, beside those that it has from before.
    """
    files = _event_files(str(experiment.get_logdir()))
    if files is None:
        return
    present = _last_layout(files)
    summary = custom_scalars({title: charts})
    tensor = summary.value[0].tensor
    (page,) = Layout.FromString(tensor.string_val[0]).category
    others = [each for each in present.category if each.title != title]
    ours = [chart for each in present.category if each.title == title for chart in each.chart]
    ours = [*page.chart, *(chart for chart in ours if chart.title not in charts)]
    # charts with a margin are shown from the last to the first: so in the order of tags
    page = Category(title=title, chart=sorted(ours, key=_first_tag, reverse=True))
    merged = Layout(version=present.version, category=[*others, page])
    if merged != present:
        tensor.string_val[0] = merged.SerializeToString()
        experiment.file_writer.add_summary(summary)


def _first_tag(chart: Chart) -> str:
    return next(iter((*chart.multiline.tag, *(series.value for series in chart.margin.series))), "")


def _event_files(folder: str) -> list[Any] | None:
    """Those of a run, in the order in which TensorBoard reads them; None if they are too large."""
    disk, path = fsspec.core.url_to_fs(folder)
    disk.invalidate_cache()
    # not by a pattern: a run's name may look like one
    names = sorted(name for name in disk.ls(path, detail=False) if "tfevents" in name[len(path) :])
    if sum(disk.size(name) for name in names) > LARGEST:
        return None
    return [fsspec.core.OpenFile(disk, name) for name in names]


def _last_layout(files: list[Any]) -> Layout:
    """What stands there; empty if nothing does."""
    found = Layout()
    for each in files:
        with each as file:
            for record in _records(file):
                if TAG in record:
                    for value in Event.FromString(record).summary.value:
                        if value.tag.encode() == TAG:
                            found = Layout.FromString(value.tensor.string_val[0])
    return found


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Those of an event file that are whole."""
    while len(head := file.read(HEAD)) == HEAD:
        length = int.from_bytes(head[:8], "little")
        if length > LARGEST:
            return  # what a disk that was full left of a record
        record = file.read(length + TAIL)
        if len(record) < length + TAIL:
            return
        yield record[:length]

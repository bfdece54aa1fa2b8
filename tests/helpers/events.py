"""What stands in TensorBoard's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


class Events:
    """One run's directory, read back whole."""

    def __init__(self, directory: str | Path) -> None:
        everything = dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
        self._events = EventAccumulator(str(directory), size_guidance=everything)
        self._events.Reload()

    @property
    def tags(self) -> dict[str, set[str]]:
        """Tags by kind."""
        tags = self._events.Tags()
        return {kind: set(tags[kind]) for kind in ("scalars", "histograms", "images", "tensors")}

    def scalars(self, prefix: str = "") -> dict[str, list[tuple[int, float]]]:
        """Tag to points of (step, value)."""
        return {
            tag: [(point.step, point.value) for point in self._events.Scalars(tag)]
            for tag in self._events.Tags()["scalars"]
            if tag.startswith(prefix)
        }

    def images(self, tag: str) -> list[tuple[int, tuple[int, int]]]:
        """Points of (step, (height, width))."""
        return [(point.step, (point.height, point.width)) for point in self._events.Images(tag)]

    def texts(self, tag: str) -> list[tuple[int, str]]:
        """Points of (step, text)."""
        tag = f"{tag}/text_summary"
        if tag not in self._events.Tags()["tensors"]:
            return []
        return [
            (point.step, point.tensor_proto.string_val[0].decode())
            for point in self._events.Tensors(tag)
        ]

    def metadata(self, tag: str) -> Any:
        """Of which plugin a tag is, and what kind of data."""
        return self._events.SummaryMetadata(tag)

    def layouts(self) -> list[bytes]:
        """All that were written of Custom Scalars pages."""
        points = self._events.Tensors("custom_scalars__config__")
        return [point.tensor_proto.string_val[0] for point in points]

"""The runs in TensorBoard's event files, as its own reader finds and names them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from tensorboard.backend.event_processing import io_wrapper
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.backend.event_processing.tag_types import TENSORS
from tensorboard.context import RequestContext

from lightning_hessian.tab import (
    MOST_ENTRIES,
    MOST_LOSSES,
    PLUGIN_NAME,
    list_series,
    read_entries,
    read_losses,
)

EXPERIMENT = ""
"""The local reader has one experiment, whatever its name."""


def is_event_file(path: str) -> bool:
    """Whether a path names an event file.

    Args:
        path: Of a file.

    Returns:
        As TensorBoard decides.
    """
    return bool(io_wrapper.IsSummaryEventsFile(path))


def read_event_files(places: Iterable[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Read what callbacks wrote into event files.

    Args:
        places: Folders, with all folders in them, and single event files.

    Returns:
        Each run that has data of ours, by its folder or file, as ``entries``, ``problems`` and
        ``losses``; and the files that cannot be opened, each with its reason. Behind these, and
        behind a damaged record, nothing of a run is read, as in TensorBoard.
    """
    # of what others wrote nothing is wanted, and nothing of it kept but one of each
    multiplexer = EventMultiplexer(
        size_guidance={TENSORS: 1},
        tensor_size_guidance={PLUGIN_NAME: MOST_ENTRIES, "scalars": MOST_LOSSES},
    )
    left_out: dict[str, str] = {}
    for run in dict.fromkeys(run for place in places for run in _runs_at(place)):
        left_out |= dict(_unreadable(run))
        multiplexer.AddRun(run, name=run)
    multiplexer.Reload()
    provider, ctx = MultiplexerDataProvider(multiplexer, EXPERIMENT), RequestContext()
    runs = {
        run: {
            **read_entries(provider, ctx, EXPERIMENT, run),
            "losses": read_losses(provider, ctx, EXPERIMENT, run),
        }
        for run in list_series(provider, ctx, EXPERIMENT)
    }
    return runs, left_out


def _runs_at(place: str) -> Iterator[str]:
    if os.path.isdir(place):
        yield from sorted(io_wrapper.GetLogdirSubdirectories(place))
    else:
        yield place


def _unreadable(run: str) -> Iterator[tuple[str, str]]:
    """Why event files of a run cannot be opened."""
    names = sorted(os.listdir(run)) if os.path.isdir(run) else [""]
    for path in (os.path.join(run, name) if name else run for name in names):
        if is_event_file(path):
            try:
                open(path, "rb").close()
            except OSError as error:
                yield path, str(error.strerror)

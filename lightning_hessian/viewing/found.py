"""What there is to show at some paths: in event files, or else in and beside checkpoints."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_hessian.viewing.event_files import is_event_file, read_event_files

EVENT_FILES = "event files"
CHECKPOINTS = "checkpoints and the files beside them"
OF_CHECKPOINTS = (".ckpt", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is to show.

    Attributes:
        runs: For the page: ``name``, ``entries``, ``problems`` and ``losses`` of each.
        sources: What they were read from, in words.
        left_out: What could not be read, each with its reason.
    """

    runs: list[dict[str, Any]]
    sources: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def num_reports(self) -> int:
        """Of all runs and callbacks."""
        return sum(len(run["entries"]) for run in self.runs)

    @property
    def callbacks(self) -> list[str]:
        """Names of those that the reports are of."""
        return sorted({entry["callback"] for run in self.runs for entry in run["entries"]})


def find(paths: Sequence[str]) -> Found:
    """Look for reports at some paths.

    Args:
        paths: Folders, event files, checkpoints, JSON files beside them, or patterns of these. Of a
            run the event files, if any of them has data of ours, else checkpoints and JSON files.

    Returns:
        Runs by their names. Of a single folder they have those that TensorBoard gives them; of
        several paths they are named from the folder that all runs have in common.

    Raises:
        ValueError: If there is nothing at a path, or a file of another kind.
    """
    places = list(dict.fromkeys(place for path in paths for place in _expanded(path)))
    runs: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    rest: list[str] = []
    for place in places:
        if os.path.isdir(place) or is_event_file(place):
            found, problems = read_event_files([place])
            runs |= found
            left_out |= problems
            if not os.path.isdir(place):
                continue
            rest += _folders_beside(place, found) if found else [place]
        else:
            rest.append(place)
    sources = [EVENT_FILES] if runs else []
    if rest:
        others, problems = _of_checkpoints(rest)
        sources += [CHECKPOINTS] if others else []
        left_out |= problems
        runs |= others
    base = places[0] if len(places) == 1 and os.path.isdir(places[0]) else _common(runs)
    named = [{**run, "name": os.path.relpath(key, base)} for key, run in sorted(runs.items())]
    reasons = [f"{file}: {reason}" for file, reason in left_out.items()]
    reasons += [f"{run['name']}: {each.rstrip('.')}" for run in named for each in run["problems"]]
    return Found(runs=named, sources=tuple(sources), left_out=tuple(reasons))


def _expanded(path: str) -> list[str]:
    """What a path or pattern names."""
    path = os.path.abspath(os.path.expanduser(path))
    found = [path] if os.path.exists(path) else sorted(glob.glob(path))
    if not found:
        raise ValueError(
            f"`paths` must name what is there, got {path}. Give the folder of a run, or of several."
        )
    for each in found:
        if not (os.path.isdir(each) or each.endswith(OF_CHECKPOINTS) or is_event_file(each)):
            raise ValueError(
                "`paths` must be folders, event files, checkpoints or the JSON files beside them, "
                f"got {each}. Give the folder that it is in."
            )
    return found


def _folders_beside(place: str, runs: Collection[str]) -> list[str]:
    """Folders with checkpoints, or files beside such, that are in none of the runs' folders."""
    return [
        folder
        for folder, _, names in os.walk(place)
        if any(".ckpt" in name for name in names)
        and not any(folder == run or folder.startswith(f"{run}{os.sep}") for run in runs)
    ]


def _of_checkpoints(places: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The runs in checkpoints and JSON files, by their folders; torch is imported for these."""
    from lightning_hessian.reading import find_reports
    from lightning_hessian.show import tab_run

    found, left_out = find_reports(places)
    by_run: dict[str, dict[str, Any]] = {}
    for (folder, callback), reports in sorted(found.items()):
        by_run.setdefault(folder, {})[callback] = reports
    return {folder: tab_run(folder, reports) for folder, reports in by_run.items()}, left_out


def _common(runs: dict[str, Any]) -> str:
    """The folder that all runs are in."""
    if not runs:
        return os.curdir
    return os.path.commonpath([os.path.dirname(run) for run in runs])

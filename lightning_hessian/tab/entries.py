"""The entries of runs, one for each report, as they are read through a data provider."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from typing import Any

PLUGIN_NAME = "hessian"
FORMAT = 1
"""Of an entry: what the page must know to draw it."""
MOST_ENTRIES = 2000
"""Of one callback of a run that TensorBoard keeps, unless it is told another number; two hundred
times what a fit makes at the defaults."""
UNBOUNDED = 10**6
"""As many as were kept."""
LARGEST_ENTRY = 16 * 2**20
MOST_LOSSES = 1000
"""Points that are read of a curve of the user's."""


class UnreadableEntryError(ValueError):
    """An event file has under our name what is no entry of this format."""


def parse_entry(content: bytes) -> dict[str, Any]:
    """Read an entry, which may be of another version, or a stranger's.

    Args:
        content: As it stands in an event file.

    Returns:
        A dictionary with the parts that each entry has, of their kinds.

    Raises:
        UnreadableEntryError: If it is too large, no JSON, or lacks such a part.
    """
    if len(content) > LARGEST_ENTRY:
        raise UnreadableEntryError(
            f"an entry has {len(content) >> 20} MiB, more than the {LARGEST_ENTRY >> 20} of any "
            "report."
        )
    try:
        entry = json.loads(content, parse_float=_finite, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableEntryError(f"an entry is no JSON: {error}.") from error
    if not isinstance(entry, dict) or "format" not in entry:
        raise UnreadableEntryError("an entry has no `format`.")
    if entry["format"] != FORMAT:
        raise UnreadableEntryError(
            f"an entry is in format {str(entry['format'])[:20]}, of another lightning_hessian; "
            f"this one reads format {FORMAT}. Open it with that version."
        )
    for part, kind in (("callback", str), ("kind", str), ("step", int), ("scalars", dict)):
        if not isinstance(entry.get(part), kind):
            raise UnreadableEntryError(f"an entry has no `{part}` of type {kind.__name__}.")
    return entry


def list_series(provider: Any, ctx: Any, experiment: str) -> dict[str, dict[str, float | None]]:
    """When each series of entries was last added to.

    Args:
        provider: TensorBoard's data provider.
        ctx: Of the request.
        experiment: TensorBoard's name of the experiment.

    Returns:
        Run to tag to the wall time of the latest entry.
    """
    listed = provider.list_tensors(ctx, experiment_id=experiment, plugin_name=PLUGIN_NAME)
    return {
        run: {tag: _or_none(series.max_wall_time) for tag, series in tags.items()}
        for run, tags in sorted(listed.items())
    }


def read_entries(provider: Any, ctx: Any, experiment: str, run: str) -> dict[str, Any]:
    """The entries of a run.

    Args:
        provider: TensorBoard's data provider.
        ctx: Of the request.
        experiment: TensorBoard's name of the experiment.
        run: Its name.

    Returns:
        ``entries`` in the order of the events, and ``problems``: why others could not be read.
    """
    read = provider.read_tensors(
        ctx,
        experiment_id=experiment,
        plugin_name=PLUGIN_NAME,
        downsample=UNBOUNDED,
        run_tag_filter=_only(run),
    )
    entries: list[dict[str, Any]] = []
    problems: dict[str, None] = {}
    # as they were written: of a training that began anew in the same folder the later ones stand
    data = [datum for series in read.get(run, {}).values() for datum in series]
    for datum in sorted(data, key=lambda datum: datum.wall_time):
        try:
            entries.extend(parse_entry(content) for content in _contents(datum.numpy))
        except UnreadableEntryError as error:
            problems[str(error)] = None
    return {"entries": entries, "problems": list(problems)}


def read_losses(provider: Any, ctx: Any, experiment: str, run: str) -> dict[str, Any]:
    """The curves of a run that the user logged as a loss.

    Args:
        provider: TensorBoard's data provider.
        ctx: Of the request.
        experiment: TensorBoard's name of the experiment.
        run: Its name.

    Returns:
        Tag to pairs of step and value, for tags that have "loss" in their name; the value is None
        where it is no finite number, as in a training that diverged.
    """
    known = list_series(provider, ctx, experiment).get(run, {})
    listed = provider.list_scalars(
        ctx, experiment_id=experiment, plugin_name="scalars", run_tag_filter=_only(run)
    )
    tags = [
        tag for tag in listed.get(run, {}) if "loss" in tag.lower() and not _is_ours(tag, known)
    ]
    if not tags:
        return {}
    read = provider.read_scalars(
        ctx,
        experiment_id=experiment,
        plugin_name="scalars",
        downsample=MOST_LOSSES,
        run_tag_filter=_only(run, tags),
    )
    return {
        tag: [[datum.step, _or_none(datum.value)] for datum in series]
        for tag, series in read.get(run, {}).items()
    }


def as_json(value: Any) -> str:
    """What was read, for the page.

    Args:
        value: Primitives, numbers finite.

    Returns:
        JSON.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _or_none(value: float) -> float | None:
    """A number, as far as JSON has one for it: a browser reads no other."""
    return value if math.isfinite(value) else None


def _finite(digits: str) -> float | None:
    """Of a number that is larger than any other."""
    return _or_none(float(digits))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of it")


def _is_ours(tag: str, known: Collection[str]) -> bool:
    """Whether a scalar was logged by a callback that has entries here, in whichever group."""
    names = [each.rpartition("/")[0] for each in known]
    return any(tag.startswith((f"{name}/", f"{name}_")) for name in names)


def _only(run: str, tags: list[str] | None = None) -> Any:
    from tensorboard.data.provider import RunTagFilter

    return RunTagFilter(runs=[run], tags=tags)


def _contents(values: Any) -> Iterator[bytes]:
    """The bytes of a string tensor, of whichever shape."""
    for value in values.reshape(-1).tolist():
        yield value if isinstance(value, bytes) else str(value).encode()

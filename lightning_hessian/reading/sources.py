"""Which reports there are on the disk: beside checkpoints, and inside them."""

from __future__ import annotations

import ast
import dataclasses
import glob
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from lightning_hessian.analysis import Paths, check_file, find_checkpoints, read_checkpoint
from lightning_hessian.fit import load_history
from lightning_hessian.reading.run_reports import KINDS, RunReports, in_order
from lightning_hessian.records import Report
from lightning_hessian.show import read_sidecar, scalars

SIDECAR = re.compile(r"(?P<ckpt>.*\.ckpt)\.(?P<name>.+)\.json")
CHECKPOINTS = "checkpoints"
"""The folder in a run's, by Lightning's custom."""
Named = tuple[str, Report]


def read_reports(where: Paths) -> list[RunReports]:
    """Read all reports of a run, or of a folder of runs.

    A run is a folder with checkpoints, those in its folder ``checkpoints`` included. Its reports
    are those of the JSON files beside checkpoints (``<checkpoint>.<name>.json``) together with the
    history that travels inside checkpoints, each once; of several copies the fullest. Checkpoints
    need not be there, and what is in them is neither unpickled nor loaded: they are looked through
    for the reports alone. A file that cannot be read is left out with a warning.

    Args:
        where: A run, a folder of runs, a checkpoint, a JSON file, a pattern, or several of these.

    Returns:
        One for each callback of each run, sorted by both.

    Raises:
        ValueError: If there is no report.

    Example:
        >>> import tempfile
        >>> from lightning_hessian import SpectrumReport, read_reports
        >>> from lightning_hessian.show import write_sidecar
        >>> folder = tempfile.mkdtemp()
        >>> _ = write_sidecar(SpectrumReport(loss=0.5), f"{folder}/last.ckpt", name="hessian")
        >>> (found,) = read_reports(folder)
        >>> found.name, [report.loss for report in found.reports]
        ('hessian', [0.5])
    """
    given = [where] if isinstance(where, str | os.PathLike) else list(where)
    found, left_out = find_reports(given)
    for file, reason in left_out.items():
        rank_zero_warn(f"The reports of {file} are left out: {reason}.")
    if not found:
        names = ", ".join(os.fspath(each) for each in given)
        raise ValueError(
            "`where` must hold reports beside or inside checkpoints, got "
            f"{names}. Measure with `at_checkpoints=True`, or by `analyze`."
        )
    folders = {folder for folder, _ in found}
    top = os.path.commonpath(folders) if len(folders) > 1 else os.path.dirname(*folders)
    return [
        RunReports(run=os.path.relpath(folder, top), name=name, reports=reports)
        for (folder, name), reports in sorted(found.items())
    ]


def find_reports(
    where: Sequence[str | os.PathLike[str]],
) -> tuple[dict[tuple[str, str], tuple[Report, ...]], dict[str, str]]:
    """Look for all reports at some paths.

    Args:
        where: As for :func:`read_reports`.

    Returns:
        The reports of each callback of each run, by the run's folder and the callback's name; and
        the files that cannot be read, each with its reason.
    """
    paths = [os.path.abspath(os.fspath(each)) for each in where]
    files = dict.fromkeys(file for path in paths for file in _files(path))
    found: dict[tuple[str, str], dict[str, Report]] = {}
    left_out: dict[str, str] = {}
    for file in files:
        try:
            check_file(file)
            read = _beside if SIDECAR.fullmatch(file) else _inside
            reports = [(name, _checked(report)) for name, report in read(file)]
        except Exception as error:  # one that cannot be read is none of the others' concern
            left_out[file] = (str(error) or type(error).__name__).rstrip(".")
            continue
        for name, report in reports:
            _keep_fullest(found.setdefault((_run_of(file), name), {}), report)
    return {key: tuple(in_order(copies.values())) for key, copies in found.items()}, left_out


def _files(path: str) -> Iterator[str]:
    """Files beside checkpoints, then checkpoints: the former know where they stand."""
    if SIDECAR.fullmatch(path):
        yield path
        return
    checkpoints = [each for each in find_checkpoints(path) if each.endswith(".ckpt")]
    if os.path.isdir(path):
        yield from sorted(str(each) for each in Path(path).rglob("*.ckpt.*.json"))
    else:
        for each in checkpoints:
            yield from sorted(glob.glob(f"{glob.escape(each)}.*.json"))
    yield from checkpoints


def _run_of(file: str) -> str:
    folder = os.path.dirname(file)
    is_inner = os.path.basename(folder) == CHECKPOINTS
    return os.path.dirname(folder) if is_inner else folder


def _checked(report: Report) -> Report:
    """With what all is sorted by, and numbers for the table."""
    for name in ("global_step", "epoch"):
        if type(getattr(report, name)) is not int:
            raise ValueError(f"`{name}` must be a whole number, got {getattr(report, name)!r:.40}")
    scalars(report)
    return report


def _beside(file: str) -> Sequence[Named]:
    """The report in a JSON file."""
    values = read_sidecar(file)
    names = {kind: {f.name for f in dataclasses.fields(kind)} for kind in KINDS.values()}
    # what a file does not say; no kind has the fields of another
    kind = max(names, key=lambda each: len(names[each] & values.keys()))
    report = kind.from_dict(values)
    match = SIDECAR.fullmatch(file)
    assert match is not None
    name = match["name"].removesuffix(f".{report.weights}")
    return [(name, dataclasses.replace(report, ckpt_path=match["ckpt"]))]


def _inside(file: str) -> Sequence[Named]:
    """The histories in a checkpoint."""
    content = read_checkpoint(file, weights_only=True, only_survey=True)
    found: list[Named] = []
    for key, state in content.get("callbacks", {}).items():
        kind, _, arguments = str(key).partition("{")
        if kind in KINDS:
            name = ast.literal_eval("{" + arguments)["name"]
            reports = load_history(state, KINDS[kind], settings="").reports
            found += [(name, report) for report in reports]
    return found


def _keep_fullest(copies: dict[str, Report], report: Report) -> None:
    """One of each measurement, which its time tells from all others."""
    told = (report.weights, report.global_step, report.epoch, report.seconds, report.failure)
    known = copies.get(repr(told))
    if known is None:
        copies[repr(told)] = report
    elif _extent(report) > _extent(known):
        path = known.ckpt_path or report.ckpt_path
        copies[repr(told)] = dataclasses.replace(report, ckpt_path=path)


def _extent(report: Report) -> int:
    return len(json.dumps(dataclasses.replace(report, ckpt_path=None).to_dict()))

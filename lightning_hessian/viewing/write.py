"""The page as a file, from Python."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_hessian.tab import is_page, page_html
from lightning_hessian.viewing.found import Found, find
from lightning_hessian.whole_files import write_whole

if TYPE_CHECKING:
    from lightning_hessian.analysis import Paths
    from lightning_hessian.reading import Reports

OUTPUT = "hessian.html"


def write_page(
    reports: Paths | Reports,
    output: str | os.PathLike[str] = OUTPUT,
    *,
    overwrite: bool = False,
) -> str:
    """Write the page of the Hessian tab as one HTML file, which needs no TensorBoard.

    The file holds the charts and their numbers, opens in any browser without a network, and can be
    sent to others. What cannot be read is left out with a warning.

    Args:
        reports: Paths of folders, event files, checkpoints and JSON files beside them; or what
            :func:`read_reports` gives; or ``callback.reports``. Of a run the event files are read
            if any of them has data of this package, else its checkpoints and JSON files.
        output: The file. One that an earlier call wrote is written anew.
        overwrite: Write over any other file too.

    Returns:
        The path of the file.

    Raises:
        ValueError: If there is no report, nothing at a path, or another file at ``output``.

    Example:
        >>> import pathlib, tempfile
        >>> from lightning_hessian import SpectrumReport, write_page
        >>> path = write_page([SpectrumReport(loss=0.5)], f"{tempfile.mkdtemp()}/hessian.html")
        >>> '"loss":0.5' in pathlib.Path(path).read_text(encoding="utf8")
        True
    """
    given: list[Any] = [reports] if isinstance(reports, str | os.PathLike) else list(reports)
    target = checked_output(output, overwrite=overwrite)
    if any(isinstance(each, str | os.PathLike) for each in given):
        found = find([os.fspath(each) for each in given])
        title = titled(*given)
    else:
        found, title = _in_memory(given), "Hessian"
    for reason in found.left_out:
        warnings.warn(f"The page is without {reason}.", stacklevel=2)
    save(found, target, title=title)
    return str(target)


def checked_output(output: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Where the page is to stand, before the work is done.

    Args:
        output: A path.
        overwrite: Whether any file that is there may go.

    Returns:
        The path.

    Raises:
        ValueError: If its folder is not there, or a file that is no such page.
    """
    target = Path(output)
    if not target.parent.is_dir():
        raise ValueError(
            f"`output` must be in a folder that is there, got {target}. Make the folder first."
        )
    if target.is_dir():
        raise ValueError(
            f"`output` must be a file, got the folder {target}. Give {target}/{OUTPUT}."
        )
    if target.exists() and not overwrite and not is_page(target):
        raise ValueError(
            f"`output` must not name a file of another kind that is there already, got {target}. "
            "Give another path, or `overwrite`."
        )
    return target


def save(found: Found, target: Path, *, title: str) -> None:
    """Write the page of what was found, whole or not at all.

    Args:
        found: With a report at least.
        target: The file.
        title: Of the document.

    Raises:
        ValueError: If there is no report.
    """
    if not found.num_reports:
        raise ValueError(
            "`reports` must hold reports of lightning_hessian, got none"
            f"{_because(found)}. They are in TensorBoard's event files, beside checkpoints by "
            "`at_checkpoints=True`, and inside checkpoints."
        )
    write_whole(target, page_html(found.runs, title=title).encode())


def titled(*paths: str | os.PathLike[str]) -> str:
    """A title that tells pages apart.

    Args:
        paths: As given.

    Returns:
        Of the document.
    """
    return f"Hessian: {', '.join(Path(path).resolve().name for path in paths)}"


def _because(found: Found) -> str:
    return f", as these cannot be read: {'; '.join(found.left_out)}" if found.left_out else ""


def _in_memory(reports: list[Any]) -> Found:
    """Reports of runs, and those of a callback, which are of one training."""
    from lightning_hessian.reading import as_runs
    from lightning_hessian.show import tab_run

    by_run: dict[str, dict[str, Any]] = {}
    for each in as_runs(reports):
        by_run.setdefault(each.run or "this training", {})[each.name] = each.reports
    return Found(runs=[tab_run(name, found) for name, found in by_run.items()])

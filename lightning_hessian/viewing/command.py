"""``python -m lightning_hessian view``: the page from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lightning_hessian.viewing.found import Found, find
from lightning_hessian.viewing.write import OUTPUT, checked_output, save, titled

SOME_COULD_NOT_BE_READ = 3
ABOUT = "Write the page of the Hessian tab as one HTML file, which needs no TensorBoard."
EPILOG = """examples:
  {program} runs
  {program} runs/version_0 runs/version_3 --output two.html

ends with 0 if all was read, 3 if some files could not be read, 1 if there was no report, and 2 if
an argument is wrong"""


def view(arguments: Sequence[str], *, program: str) -> None:
    """Run the command.

    Args:
        arguments: Behind its name.
        program: Its name, for the help.

    Raises:
        SystemExit: With code 1 and the reason if there is no report, 2 if an argument is wrong, 3
            if some files could not be read.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=ABOUT,
        epilog=EPILOG.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a run or a folder of runs: its event files, or where these have no data of this "
        "package its checkpoints and the JSON files beside them; or such a file; or a pattern",
    )
    parser.add_argument("--output", default=OUTPUT, help="the file (default: %(default)s)")
    parser.add_argument(
        "--overwrite", action="store_true", help="write over a file that is no such page, too"
    )
    given = parser.parse_args(arguments)
    try:
        target = checked_output(given.output, overwrite=given.overwrite)
        found = find(given.paths)
    except ValueError as error:
        parser.error(str(error))
    try:
        save(found, target, title=titled(*given.paths))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    for reason in found.left_out:
        print(f"left out: {reason}", file=sys.stderr)
    print(f"{target}: {_told(found)} ({target.stat().st_size / 1e6:.1f} MB). Open it in a browser.")
    if found.left_out:
        raise SystemExit(SOME_COULD_NOT_BE_READ)


def _told(found: Found) -> str:
    runs, reports = len(found.runs), found.num_reports
    return (
        f"{runs} run{'s' * (runs != 1)} with {reports} report{'s' * (reports != 1)} of "
        f"{', '.join(found.callbacks)}, from {' and '.join(found.sources)}"
    )

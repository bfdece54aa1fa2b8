"""Install each package, train with it, and write the page: ``python -m examples.compatibility``.

Needs ``uv`` (``pip install uv``), an index of packages, some 20 GB of disk and half an hour. Names
of programs choose some of them; the page is written of all outcomes that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from examples.compatibility.environments import installed, outcome_of
from examples.compatibility.outcome import Outcome
from examples.compatibility.packages import PACKAGES
from examples.compatibility.table import PAGE, page


def main() -> None:
    """Run programs one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("programs", nargs="*", help="such as with_timm; none for all")
    parser.add_argument("--folder", type=Path, default=Path("runs/compatibility"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only-write", action="store_true", help="the page, of what is there")
    options = parser.parse_args()
    if unknown := sorted(set(options.programs) - set(PACKAGES)):
        parser.error(f"no program {unknown[0]!r}; there are {', '.join(sorted(PACKAGES))}")
    options.folder = options.folder.absolute()
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = [] if options.only_write else options.programs or sorted(PACKAGES)
    for program in chosen:
        python = installed(PACKAGES[program], options.folder / program)
        outcome = outcome_of(program, python, options.folder)
        outcome.write(options.folder / f"{program}.json")
        print(f"{program}: {outcome.error or outcome.failure or outcome.values}", flush=True)
    found = [Outcome.read(path) for path in sorted(options.folder.glob("with_*.json"))]
    options.page.write_text(page(found), encoding="utf8")


if __name__ == "__main__":
    main()

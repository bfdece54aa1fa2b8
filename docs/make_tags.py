"""Writes ``docs/tags.md`` from what the records declare: ``python -m docs.make_tags``."""

from __future__ import annotations

from pathlib import Path

from lightning_hessian import CriticalPointReport, LossDifferenceReport, SpectrumReport
from lightning_hessian.show import tag_table

PAGE = Path(__file__).parent / "tags.md"
HEAD = """# Tags

Everything is logged at the step at which Lightning logs the loss of the same weights. Tags begin
with the callback's `name=` and stand in groups: under the name alone what one looks at, under
`<name>_layers` the same of parts of the network, under `<name>_details` further numbers, under
`<name>_errors` how far they can be trusted, and under `<name>_cost` what the measurement came to.

**In bold** is what is logged at the defaults. `scalars="all"` logs every number. Reports, the files
beside checkpoints, `reports_frame` and `monitor=True` have them all in any case.

`<i>` counts from 1, `<name>` is the name of a block, `<threshold>` one of `thresholds`. *Its error*
lists the tags logged beside it, if there are any. A quantity that was not asked for has no tags.
[When it measures](tensorboard.md) says where they appear.

This page is generated from what the records declare (`python -m docs.make_tags`).
"""


def page() -> str:
    """The page as it should stand on the disk."""
    parts = [
        HEAD,
        "## `HessianSpectrum`",
        tag_table(SpectrumReport, prefix="hessian").strip(),
        "## `CriticalPoint`",
        tag_table(CriticalPointReport, prefix="critical_point").strip(),
        "## `LossDifference`",
        tag_table(LossDifferenceReport, prefix="loss_difference").strip(),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf8")

"""In a browser, runs that have little, that grow, or that are called so as to do harm."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from examples.board import served
from examples.browser import CARDS, Visit, visiting
from lightning_hessian import Note
from lightning_hessian.records import Estimate, ParameterBlock, StabilityMargin
from tests.helpers.critical_points import point_at
from tests.helpers.loss_difference_reports import difference_report
from tests.helpers.reports import eigenvalues_at, failed_at, report_at, trace_at
from tests.helpers.tab import write_bytes, write_reports

pytestmark = pytest.mark.slow

HARM = "<img src=x onerror=alert(1)>"
NAMES = (
    HARM,
    "__proto__",
    "constructor",
    "'\"`;--",
    "=HYPERLINK(1)",
    "Ω 訓練 🏔",
    "a" * 150 + "/" + "b" * 150,
)


@contextmanager
def looking_at(chromium: Any, folder: Path, scratch: Path) -> Iterator[Visit]:
    """The page of a TensorBoard that reads its files every second."""
    with (
        served(folder, scratch, "--reload_interval", "1") as board,
        visiting(chromium, board.url) as visit,
    ):
        board.wait_for(lambda it: it.get("data/runs"), "runs")
        yield visit
        assert visit.wrong == []


def reload(visit: Visit) -> None:
    """TensorBoard's own button."""
    visit.page.locator("button.reload-button").click()


def test_without_data_of_ours_the_tab_is_not_listed(chromium: Any, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "logs" / "run")) as writer:
        writer.add_scalar("loss", 1.0, 0)
    with looking_at(chromium, tmp_path / "logs", tmp_path) as visit:
        visit.wait_for(lambda: "TIME SERIES" in visit.names, "other tabs")
        assert "HESSIAN" not in visit.names


def test_what_was_not_measured_is_said_with_what_brings_it(chromium: Any, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_reports(logs / "run", report_at(0, density=None), report_at(5, density=None))
    with looking_at(chromium, logs, tmp_path) as visit:
        visit.open_tab()
        said = {card: visit.card(card).locator(".nothing").all_inner_texts() for card in CARDS}
        assert "max_overhead=None" in said["spectral-density"][0]
        assert "parameter_blocks" in said["by-layer"][0]
        assert "LossDifference(" in said["loss-difference"][0]
        assert said["largest-eigenvalue"] == said["cost"] == []


def test_a_failure_is_told_in_its_own_words(chromium: Any, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_reports(logs / "run", failed_at(0))
    write_bytes(logs / "run", b"what no version of ours wrote", tag="stranger/report", step=1)
    with looking_at(chromium, logs, tmp_path) as visit:
        visit.open_tab()
        assert "ValueError: no" in visit.card("largest-eigenvalue").inner_text()
        words = visit.card("cost").inner_text()
        assert "ValueError: no" in words
        assert "an entry is no JSON" in words


def test_a_run_that_is_still_written_grows_when_tensorboard_reloads(
    chromium: Any, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    write_reports(logs / "run", report_at(0), report_at(10))

    def steps() -> list[int]:
        return sorted({row["step"] for row in visit.rows("trace")})

    with looking_at(chromium, logs, tmp_path) as visit:
        visit.open_tab()
        assert steps() == [0, 10]
        write_reports(logs / "run", report_at(20))
        write_reports(logs / "another", report_at(0))

        def grown() -> bool:
            reload(visit)
            visit.page.wait_for_timeout(300)
            return steps() == [0, 10, 20]

        visit.wait_for(grown, "new point")
        # what is at the end stays at the end
        assert visit.frame.locator("nav output").text_content() == "20"
        visit.wait_for(lambda: {row["run"] for row in visit.rows("trace")} >= {"another"}, "run")


def test_of_a_training_that_began_anew_in_its_folder_the_new_one_is_shown(
    chromium: Any, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    for step in (0, 20, 40):
        write_reports(logs / "run", report_at(step))
    time.sleep(1.1)  # event files are put in order by seconds
    for step in (0, 10):
        write_reports(logs / "run", report_at(step, trace=trace_at(7.0)))
    with looking_at(chromium, logs, tmp_path) as visit:
        visit.open_tab()
        found = [(row["step"], row["value"]) for row in visit.rows("trace")]
        assert found == [(0, 7.0), (10, 7.0)]


def test_the_share_of_the_edge_has_the_interval_of_the_whole_training_set(
    chromium: Any, tmp_path: Path
) -> None:
    edge = StabilityMargin(
        sharpness=0.45, bound=0.001, threshold=2.0, largest_eigenvalue=19.5, interval=(0.2, 1.0)
    )
    report = report_at(0, edge=edge)
    write_reports(tmp_path / "logs" / "run", report)
    with looking_at(chromium, tmp_path / "logs", tmp_path) as visit:
        visit.open_tab()
        rows = visit.rows("largest-eigenvalue")
        (share,) = (row for row in rows if row["quantity"] == "share of the edge")
        found = [share[part] for part in ("value", "low", "high")]
        assert found == pytest.approx([0.225, 0.1, 0.5], rel=1e-4)


def test_names_are_text_and_nothing_else(chromium: Any, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    for name in NAMES:
        block = ParameterBlock(
            name=HARM + name,
            trace=Estimate(value=1.0, standard_error=0.1),
            largest=eigenvalues_at([1.0], [0.1]),
        )
        told: dict[str, Any] = {"data": HARM, "notes": (Note("on-a-kink", HARM),)}
        reports = [report_at(step, blocks=(block,), **told) for step in (0, 10)]
        write_reports(logs / name, *reports, name=f"{HARM}{name}")
        write_reports(logs / name, point_at(0), name="__proto__")
        write_reports(logs / name, difference_report(step=0), name="toString")
    with looking_at(chromium, logs, tmp_path) as visit:
        visit.open_tab()
        listed = visit.frame.locator(".runs .name").all_text_contents()
        assert sorted(listed) == sorted(NAMES)
        for card in CARDS:
            assert {row["run"] for row in visit.rows(card)} == set(NAMES), card
        layers = {row["layer"] for row in visit.rows("by-layer") if "layer" in row}
        assert layers >= {HARM + name for name in NAMES}
        box = visit.card("trace").locator("svg.plot").bounding_box()
        for share in (0.1, 0.5, 0.9):
            visit.page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
            visit.page.wait_for_timeout(100)
        assert visit.frame.locator("img").count() == 0
        assert visit.frame.evaluate("() => ({}).polluted === undefined")


def test_a_folder_that_is_gone_is_said_and_comes_back(chromium: Any, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_reports(logs / "run", report_at(0))
    with looking_at(chromium, logs, tmp_path) as visit:
        visit.open_tab()
        shutil.rmtree(logs / "run")

        def gone() -> bool:
            reload(visit)
            visit.page.wait_for_timeout(300)
            return "No run here has data" in visit.frame.locator("body").inner_text()

        visit.wait_for(gone, "message")

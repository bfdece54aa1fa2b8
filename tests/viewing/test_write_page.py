"""The page from Python: of paths and of reports in memory; over which files it may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_hessian import read_reports, write_page
from lightning_hessian.show import write_sidecar
from tests.helpers.loss_difference_reports import difference_report
from tests.helpers.pages import page_in, write_events
from tests.helpers.reports import report_at


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that one is in, with a run in an event file and one beside a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "a", [report_at(1), report_at(2)])
    (tmp_path / "b").mkdir()
    write_sidecar(report_at(3), "b/last.ckpt", name="mine")
    return tmp_path


def runs(path: str) -> dict[str, list[tuple[str, int]]]:
    return {
        run["name"]: [(entry["callback"], entry["step"]) for entry in run["entries"]]
        for run in page_in(path).data
    }


def test_the_page_of_paths_of_read_reports_and_of_a_callbacks(here: Path) -> None:
    assert write_page(here) == "hessian.html"
    wanted = {"a": [("hessian", 1), ("hessian", 2)], "b": [("mine", 3)]}
    assert runs("hessian.html") == wanted
    assert page_in("hessian.html").title == f"Hessian: {here.name}"
    both = write_page([here / "a", "b"], Path("both.html"))
    assert runs(both) == wanted
    assert page_in(both).title == "Hessian: a, b"
    assert runs(write_page(read_reports("b"), "read.html")) == {"b": [("mine", 3)]}
    reports = [report_at(0), difference_report(step=4)]
    assert runs(write_page(reports, "memory.html")) == {
        "this training": [("hessian", 0), ("loss_difference", 4)]
    }


def test_an_earlier_page_is_written_anew_and_no_other_file(here: Path) -> None:
    write_page("a", "page.html")
    write_page("b", "page.html")
    assert list(runs("page.html")) == ["."]
    assert page_in("page.html").title == "Hessian: b"
    Path("thesis.html").write_text("<p>years of work</p>")
    with pytest.raises(
        ValueError, match=r"`output` must not name a file of another kind.*thesis.html. Give anot"
    ):
        write_page("a", "thesis.html")
    assert Path("thesis.html").read_text() == "<p>years of work</p>"
    write_page("a", "thesis.html", overwrite=True)
    assert list(runs("thesis.html")) == ["."]
    assert not list(here.glob(".*"))


def test_a_place_that_cannot_be_written_to_is_refused(here: Path) -> None:
    with pytest.raises(ValueError, match=r"`output` must be in a folder that is there, got no/x"):
        write_page("a", "no/x.html")
    with pytest.raises(ValueError, match=r"`output` must be a file, got the folder b\. Give b/hes"):
        write_page("a", "b")


def test_without_a_report_there_is_no_page_and_the_reason_is_said(here: Path) -> None:
    write_events(here / "other", losses=[1.0])
    with pytest.raises(
        ValueError, match=r"`reports` must hold reports of lightning_hessian, got n"
    ):
        write_page("other")
    with pytest.raises(ValueError, match=r"got none\. They are in TensorBoard's event files"):
        write_page([])
    write_events(here / "later", contents=[b'{"format": 99}'])
    with (
        pytest.warns(UserWarning, match=r"The page is without \.: an entry is in format 99"),
        pytest.raises(ValueError, match=r"got none, as these cannot be read: \.: an entry is in f"),
    ):
        write_page("later")
    assert not list(here.glob("*.html"))


def test_what_is_left_out_is_warned_of(here: Path) -> None:
    Path("b/best.ckpt.mine.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"The page is without .*best\.ckpt\.mine\.json: `path` m"):
        write_page("b")
    assert runs("hessian.html") == {".": [("mine", 3)]}

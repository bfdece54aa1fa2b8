"""``view``: what it says, and the code that it ends with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_hessian import __main__
from lightning_hessian.viewing import view
from tests.helpers.pages import page_in, write_events
from tests.helpers.reports import report_at


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_of(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        view(arguments, program="program")
    return ended.value.code


def test_what_was_read_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_events(Path("runs/a"), [report_at(1), report_at(2)])
    write_events(Path("runs/b"), [report_at(1)], name="late")
    view(["runs"], program="program")
    told = capsys.readouterr()
    assert re.fullmatch(
        r"hessian\.html: 2 runs with 3 reports of hessian, late, from event files \(0\.\d MB\)\. "
        r"Open it in a browser\.\n",
        told.out,
    )
    assert told.err == ""
    assert [run["name"] for run in page_in("hessian.html").data] == ["a", "b"]
    view(["runs/b", "--output", "b.html"], program="program")
    assert "b.html: 1 run with 1 report of late," in capsys.readouterr().out


def test_some_that_cannot_be_read_end_it_with_three(capsys: pytest.CaptureFixture[str]) -> None:
    write_events(Path("runs"), [report_at(5)], contents=[b"no JSON"])
    assert code_of("runs") == 3
    assert capsys.readouterr().err.startswith("left out: .: an entry is no JSON")
    assert len(page_in("hessian.html").data[0]["entries"]) == 1


def test_without_a_report_it_ends_with_one_and_the_reason() -> None:
    write_events(Path("runs"), losses=[1.0])
    assert str(code_of("runs")).startswith("error: `reports` must hold reports of lightning_hess")
    assert not Path("hessian.html").exists()


def test_a_disk_that_is_full_ends_it_with_one_and_leaves_the_earlier_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_events(Path("runs"), [report_at(5)])
    view(["runs"], program="program")
    before = Path("hessian.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert code_of("runs") == "error: [Errno 28] No space left on device"
    assert Path("hessian.html").read_bytes() == before
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["hessian.html"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "`paths` must name what is there"),
        ([], "the following arguments are required: PATH"),
        (["runs", "--output", "taken"], "`output` must not name a file of another kind"),
    ],
)
def test_a_wrong_argument_ends_it_with_two(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_events(Path("runs"), [report_at(5)])
    Path("taken").touch()
    assert code_of(*arguments) == 2
    assert words in capsys.readouterr().err
    view(["runs", "--output", "taken", "--overwrite"], program="program")
    assert page_in("taken").data


def test_the_help_has_examples_and_the_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("--help") == 0
    shown = capsys.readouterr().out
    assert "  program runs/version_0 runs/version_3 --output two.html" in shown
    assert "ends with 0 if all was read, 3 if some" in shown


def test_the_program_views_event_files_without_torch_and_lightning() -> None:
    write_events(Path("runs"), [report_at(5)])
    program = (
        "import sys; from lightning_hessian.__main__ import main; main(); "
        "print({'torch', 'lightning', 'matplotlib'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    made = subprocess.run(
        [sys.executable, "-c", program, "view", "runs"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert made.stdout.startswith("hessian.html: 1 run with 1 report of hessian")
    assert made.stdout.endswith("set()\n")


def test_the_programs_help_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lightning-hessian", "--help"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "`lightning-hessian view PATH` shows what was measured" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["lightning-hessian", "view", "--help"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "usage: lightning-hessian view" in capsys.readouterr().out

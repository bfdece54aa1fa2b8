"""How TensorBoard finds the tab, what it serves, and that it is no worse off without it."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from examples.board import ORDINARY, served
from lightning_hessian.tab.plugin import SCRIPTS, STATIC, HessianTabLoader
from tests.helpers.board_application import Application
from tests.helpers.reports import report_at
from tests.helpers.tab import Training, write_bytes, write_reports


@pytest.fixture
def app(tmp_path: Path) -> Application:
    """Over a run with two reports."""
    write_reports(tmp_path / "run", report_at(0), report_at(7))
    return Application(tmp_path)


def listed(app: Application) -> dict[str, bool]:
    """The plugins, and whether their tabs are listed."""
    found = app.get("plugins_listing").get_json()
    return {name: plugin["enabled"] for name, plugin in found.items()}


def test_the_package_tells_tensorboard_of_its_tab() -> None:
    (found,) = entry_points(group="tensorboard_plugins", name="hessian")
    assert found.load() is HessianTabLoader


def test_the_tab_has_its_name_and_the_script_that_draws_it(app: Application) -> None:
    described = app.get("plugins_listing").get_json()["hessian"]
    assert described["tab_name"] == "Hessian"
    assert described["loading_mechanism"]["type"] == "IFRAME"
    frame = app.get("plugin_entry.html", name="hessian")
    assert 'import("./index.js")' in frame.text


def test_it_is_listed_where_a_run_has_our_data_and_nowhere_else(
    app: Application, tmp_path: Path
) -> None:
    assert listed(app)["hessian"]
    with SummaryWriter(str(tmp_path / "other" / "run")) as writer:
        writer.add_scalar("hessian/eig_1", 1.0, 0)
    without = listed(Application(tmp_path / "other"))
    assert without["scalars"]
    assert not without["hessian"]
    (tmp_path / "empty").mkdir()
    assert not listed(Application(tmp_path / "empty"))["hessian"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_served_as_they_were_built(app: Application, name: str) -> None:
    response = app.get(f"plugin/hessian/{name}")
    assert response.status_code == 200
    assert response.data == (STATIC / name).read_bytes()
    assert response.content_type == "application/javascript; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["entries.py", "../plugin.py", "index.licences.md", ""])
def test_no_other_file_is_served(app: Application, path: str) -> None:
    assert app.get(f"plugin/hessian/{path}").status_code == 404


@pytest.mark.parametrize("path", ["series", "entries", "losses"])
def test_answers_are_json_that_no_browser_takes_for_a_page(app: Application, path: str) -> None:
    response = app.get(f"plugin/hessian/{path}", run="run")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    # strict, as a browser is
    json.loads(response.text, parse_constant=pytest.fail)


@pytest.mark.parametrize("path", ["entries", "losses"])
def test_a_request_that_names_no_run_is_refused(app: Application, path: str) -> None:
    response = app.get(f"plugin/hessian/{path}")
    assert response.status_code == 400
    assert response.text == "`run` must name a run, and is missing."


def test_a_run_with_any_name_is_asked_for_by_it(tmp_path: Path) -> None:
    name = "a&run=b %2F? ü<b>"
    write_reports(tmp_path / name, report_at(3))
    app = Application(tmp_path)
    assert list(app.get("plugin/hessian/series").get_json()) == [name]
    (entry,) = app.get("plugin/hessian/entries", run=name).get_json()["entries"]
    assert entry["step"] == 3


def test_a_number_of_samples_is_the_users_own(tmp_path: Path) -> None:
    write_reports(tmp_path / "run", *map(report_at, range(20)))
    for flags, count in (((), 20), (("--samples_per_plugin=hessian=5,text=2",), 5)):
        read = Application(tmp_path, *flags).get("plugin/hessian/entries", run="run").get_json()
        assert len(read["entries"]) == count


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_tensorboard_without_the_plugin_opens_the_same_files(
    fast: str, folder: Path, trainings: list[Training], tmp_path: Path
) -> None:
    flags = (f"--load_fast={fast}", "--reload_interval=1")
    (tmp_path / "plain").mkdir()
    with SummaryWriter(str(tmp_path / "plain" / "run")) as writer:
        writer.add_scalar("loss", 1.0, 0)
    with served(tmp_path / "plain", tmp_path, *flags, start=ORDINARY) as board:
        board.wait_for(lambda it: it.get("data/runs"), "runs")
        usual = board.lines()
    with served(folder, tmp_path, *flags, start=ORDINARY) as board:
        board.wait_for(lambda it: len(it.get("data/runs")) >= 1 + len(trainings), "runs")
        plugins = board.get("data/plugins_listing")
        assert "hessian" not in plugins
        assert plugins["scalars"]["enabled"]
        tags = board.get("data/plugin/scalars/tags")
        assert "train_loss" in tags[trainings[0].name]
        assert not any(tag.endswith("/report") for tags in tags.values() for tag in tags)
        assert board.lines() == usual
        assert board.status("data/plugin/hessian/series") == 404


def test_files_of_a_stranger_are_told_in_no_log(tmp_path: Path) -> None:
    write_bytes(tmp_path / "logs" / "run", b"\xff no entry")
    with served(tmp_path / "logs", tmp_path, "--load_fast=true") as board:
        before = board.lines()
        read = board.get("data/plugin/hessian/entries", run="run")
        assert len(read["problems"]) == 1
        assert board.lines() == before

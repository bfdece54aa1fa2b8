"""In a browser, the tab is found, follows pointer, slider and theme, and gives its numbers away."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from examples.board import Board
from examples.browser import CARDS, Visit, downloaded, steps_shown, visiting
from tests.helpers.tab import EPOCHS, EVERY, RATES

STEPS = list(range(0, EPOCHS + 1, EVERY))
NAMES = [f"lr_{rate}" for rate in RATES]
DARK = "rgb(48, 48, 48)"
SWATCHES = """rows => Object.fromEntries(rows
    .filter(row => row.querySelector(".run-color-swatch"))
    .map(row => [row.innerText.trim(),
                 getComputedStyle(row.querySelector(".run-color-swatch")).backgroundColor]))"""


def axis(visit: Visit, card: str, place: int = 0) -> list[float]:
    """The numbers that are written at the steps of one of a card's charts."""
    plot = visit.card(card).locator("svg.plot").nth(place)
    words = plot.locator('[aria-label="x-axis tick label"] text').all_text_contents()
    return [float(word.replace(",", "")) for word in words]


def place_of(visit: Visit, card: str, share: float, chart: int = 0) -> tuple[float, float]:
    """Where the pointer must be to stand at a share of a chart's width."""
    plot = visit.card(card).locator("svg.plot").nth(chart)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    left, right = 58, 14
    return box["x"] + left + share * (box["width"] - left - right), box["y"] + box["height"] / 2


def slide(visit: Visit, place: int) -> None:
    """Move the slider to one of the steps by keys, as a person without a mouse would."""
    slider = visit.frame.locator("nav input[type=range]")
    slider.focus()
    visit.page.keyboard.press("Home")
    for _ in range(place):
        visit.page.keyboard.press("ArrowRight")


def swatches(visit: Visit) -> dict[str, str]:
    """Runs of the tab with their colours."""
    found: dict[str, str] = visit.frame.locator(".runs li").evaluate_all(
        """items => Object.fromEntries(items.map(item => [
            item.querySelector(".name").textContent,
            getComputedStyle(item.querySelector(".swatch")).backgroundColor]))"""
    )
    return found


def choose_theme(visit: Visit, name: str) -> None:
    visit.page.get_by_label("Menu for changing light or dark theme").click()
    visit.page.get_by_role("menuitem", name=name, exact=True).click()


def is_dark(visit: Visit) -> bool:
    colour = visit.card("trace").evaluate("card => getComputedStyle(card).backgroundColor")
    return bool(colour == DARK)


def test_the_tab_is_listed_by_itself_and_shows_the_runs_that_have_data(visit: Visit) -> None:
    assert "HESSIAN" in visit.names
    assert sorted(swatches(visit)) == NAMES
    assert "#hessian" in visit.page.url


def test_the_pointer_and_the_slider_choose_the_step_that_is_shown(visit: Visit) -> None:
    assert steps_shown(visit, "spectral-density") == {STEPS[-1]}
    for place, step in ((0.0, STEPS[0]), (0.35, STEPS[1])):
        visit.page.mouse.move(*place_of(visit, "largest-eigenvalue", place))
        visit.wait_for(lambda step=step: steps_shown(visit, "spectral-density") == {step}, "step")
        assert visit.frame.locator("nav output").text_content() == str(step)
    slide(visit, 2)
    visit.wait_for(lambda: steps_shown(visit, "spectral-density") == {STEPS[2]}, "step")
    curve = [row for row in visit.rows("loss-difference") if "k" in row]
    assert {row["step"] for row in curve} == {STEPS[2]}
    bars = [row for row in visit.rows("by-layer") if "layer" in row]
    assert {row["step"] for row in bars} == {STEPS[2]}


def test_a_tip_names_the_run_and_its_number(visit: Visit) -> None:
    chart = visit.card("trace").locator("svg.plot")
    chart.scroll_into_view_if_needed()
    box = chart.locator('[aria-label="dot"] circle').last.bounding_box()
    visit.page.mouse.move(box["x"], box["y"])
    words = visit.wait_for(
        lambda: " ".join(chart.locator('[aria-label="tip"] text').all_text_contents()), "tip"
    )
    assert re.search(r"lr_\S+.*step \d+.* to ", words), words


def test_a_drag_shows_a_part_of_the_steps_in_all_charts_and_a_button_all_again(
    visit: Visit,
) -> None:
    whole = axis(visit, "trace")
    begin, end = (place_of(visit, "trace", share) for share in (0.3, 0.7))
    visit.page.mouse.move(*begin)
    visit.page.mouse.down()
    visit.page.mouse.move(*end, steps=4)
    visit.page.mouse.up()
    visit.wait_for(lambda: axis(visit, "trace") != whole, "other axis")
    part = axis(visit, "trace")
    assert min(part) >= 0.25 * EPOCHS
    assert max(part) <= 0.75 * EPOCHS
    assert max(axis(visit, "kind-of-point", 2)) <= 0.75 * EPOCHS
    visit.frame.get_by_role("button", name="all steps").click()
    visit.wait_for(lambda: axis(visit, "trace") == whole, "whole axis")


def test_values_stand_on_the_axis_that_is_chosen(visit: Visit) -> None:
    def labels() -> list[str]:
        plot = visit.card("trace").locator("svg.plot")
        words: list[str] = plot.locator('[aria-label="y-axis tick label"] text').all_text_contents()
        return words

    seen = [labels()]
    for scale in ("log", "linear"):
        visit.frame.get_by_label("scale of values").select_option(scale)
        visit.wait_for(lambda: labels() != seen[-1], "other axis")
        seen.append(labels())
    linear = [float(word.replace(",", "")) for word in seen[-1]]
    steps = {round(later - sooner, 6) for sooner, later in pairwise(linear)}
    assert len(steps) == 1, linear


def test_dark_and_light_are_tensorboards(visit: Visit) -> None:
    assert not is_dark(visit)
    light = swatches(visit)
    choose_theme(visit, "Dark")
    visit.wait_for(lambda: is_dark(visit), "dark mode")
    assert swatches(visit).keys() == light.keys()
    # for the tests that come after, too
    choose_theme(visit, "Light")
    visit.wait_for(lambda: not is_dark(visit), "light mode")
    assert swatches(visit) == light


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_runs_have_the_colours_that_they_have_in_other_tabs(
    chromium: Any, board: Board, theme: str
) -> None:
    with visiting(chromium, board.url) as visit:
        choose_theme(visit, theme)
        rows = visit.page.locator("runs-selector tb-data-table-content-row")
        visit.wait_for(lambda: rows.count() == 1 + len(RATES), "list of runs")
        theirs = rows.evaluate_all(SWATCHES)
        visit.open_tab()
        assert swatches(visit) == {name: theirs[name] for name in NAMES}
        assert len(set(theirs.values())) == 1 + len(RATES)


def test_a_run_is_left_out_and_found_again(visit: Visit) -> None:
    visit.frame.get_by_label("show lr_3.0").uncheck()
    visit.wait_for(lambda: {row["run"] for row in visit.rows("trace")} == set(NAMES[:2]), "rest")
    visit.frame.get_by_label("filter runs").fill("0.03")
    assert list(swatches(visit)) == ["lr_0.03"]
    visit.frame.get_by_label("filter runs").fill("")
    visit.frame.get_by_role("button", name="all", exact=True).click()
    visit.wait_for(lambda: {row["run"] for row in visit.rows("trace")} == set(NAMES), "all")


@pytest.mark.parametrize("card", CARDS)
def test_numbers_are_given_as_a_table(visit: Visit, card: str) -> None:
    name, content = downloaded(visit, card, "CSV")
    assert name == f"{card}.csv"
    shown = visit.rows(card)
    table = list(csv.DictReader(io.StringIO(content)))
    assert len(table) == len(shown)
    for row, given in zip(shown, table, strict=True):
        for column, value in row.items():
            if isinstance(value, str):
                assert given[column].removeprefix("'") == value
            else:
                assert given[column] == "" if value != value else float(given[column]) == value


@pytest.mark.parametrize("card", [card for card in CARDS if card != "cost"])
def test_charts_are_given_as_drawings_that_need_nothing_else(visit: Visit, card: str) -> None:
    name, content = downloaded(visit, card, "SVG")
    assert name == f"{card}.svg"
    drawing = ElementTree.fromstring(content)
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}path"))) >= 3
    assert "var(" not in content
    assert not re.search(r"(href|src)=[\"']https?:", content)


def test_a_surface_is_drawn_when_it_is_asked_for(visit: Visit) -> None:
    assert visit.frame.evaluate("() => globalThis.hessianSurface === undefined")
    visit.card("loss-difference").get_by_role("button", name="surface").first.click()
    canvas = visit.card("loss-difference").locator("canvas")
    visit.wait_for(lambda: canvas.count() > 0, "surface")

"""One document: nothing of it comes from elsewhere, and nothing in its data is more than text."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from lightning_hessian.show import tab_run
from lightning_hessian.tab import page_html
from lightning_hessian.tab.page import STATIC
from tests.helpers.loss_difference_reports import difference_report
from tests.helpers.pages import Page
from tests.helpers.reports import report_at

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> & \" ' \u2028 ]]>"


def page(runs: list[dict[str, Any]], title: str = "Hessian: runs") -> Page:
    return Page(page_html(runs, title=title))


def test_names_are_text_whatever_they_are() -> None:
    run = tab_run(HOSTILE, {HOSTILE: [report_at(3, data=HOSTILE)]})
    run |= {"problems": [HOSTILE], "losses": {HOSTILE: [[0, 1.0]]}}
    plain = page([tab_run("a", {"hessian": [report_at(3)]})])
    found = page([run], title=HOSTILE)
    assert found.data == [run]
    assert found.title == HOSTILE
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert (found.run, found.comments) == (plain.run, [])


def test_no_address_is_asked_and_no_script_is_run_but_the_pages_own() -> None:
    found = page([tab_run("a", {"hessian": [report_at(3)]})])
    assert not [attrs for _, attrs in found.tags if attrs.keys() & {"src", "href"}]
    (script,) = found.run
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = dict(part.split(" ", 1) for part in found.policy.split("; "))
    assert allowed["script-src"] == f"'sha256-{digest}'"
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data: blob:"
    # the policy holds for what stands behind it
    names = [tag for tag, attrs in found.tags if tag == "script" or "http-equiv" in attrs]
    assert names[0] == "meta"


def test_what_draws_surfaces_is_in_it_where_there_is_one() -> None:
    flat = tab_run("a", {"loss_difference": [difference_report(step=3)]})
    assert len(page([flat]).run) == 1
    curved = {**flat, "entries": [{**flat["entries"][0], "surface": {}}]}
    surface, index = page([flat, curved]).run
    assert surface == (STATIC / "surface.js").read_text(encoding="utf8")
    assert index == (STATIC / "index.js").read_text(encoding="utf8")


@pytest.mark.parametrize("name", ["index.js", "surface.js"])
def test_a_built_script_can_stand_in_a_document(name: str) -> None:
    script = (STATIC / name).read_bytes().lower()
    assert b"</script" not in script
    assert b"<!--" not in script
    # a browser would read another line end, and the hash would not be its own
    assert b"\r" not in script


def test_the_licences_of_what_is_built_in_travel_along() -> None:
    found = page([tab_run("a", {"hessian": [report_at()]})])
    (text,) = (text for attrs, text in found.scripts if attrs.get("id") == "licences")
    assert "Permission to use, copy, modify" in text

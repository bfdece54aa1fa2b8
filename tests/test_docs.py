"""The pages that follow from the code follow it, and the README is a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import make_help
from docs.make_tags import PAGE, page
from examples.browser import CARDS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").glob("*.md")])


def test_the_table_of_tags_is_what_the_records_declare() -> None:
    assert PAGE.read_text(encoding="utf8") == page(), "run `python -m docs.make_tags`"


def test_what_the_tab_says_of_its_charts_stands_in_its_page() -> None:
    told = make_help.MODULE.read_text(encoding="utf8")
    assert told == make_help.module(), "run `python -m docs.make_help`, and build the tab"
    assert set(make_help.sections(make_help.PAGE.read_text(encoding="utf8"))) == set(CARDS)


def test_a_page_is_told_in_plain_words() -> None:
    page = (
        "(a)=\n## A\n\n![no](x.png)\n\nOne *word* of `code`,\nby [a\nlink](y.md).\n\nTwo.\n\n"
        "(b)=\n## B\n\n**Last**.\n\n## Other\n\nNot told.\n"
    )
    assert make_help.sections(page) == {
        "a": ["One word of `code`, by a link.", "Two."],
        "b": ["Last."],
    }


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf8").splitlines()) <= 130


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_page_links_to_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf8")):
        # the pages of tutorials are made when the documentation is built
        file = target.replace("gallery/", "tutorials/") + ".py" if "gallery/" in target else target
        if "://" not in target:
            assert (path.parent / file).exists(), target


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_are_there(name: str) -> None:
    package = ROOT / "lightning_hessian"
    for named in re.findall(
        r"`([a-z_]+/[\w/]*(?:\.\w+)?)`", (ROOT / name).read_text(encoding="utf8")
    ):
        assert any((folder / named).exists() for folder in (ROOT, package)), named

"""The table of situations in this folder's README names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FIRST, LAST = "### The step outside", "## Not tested"


def rows() -> list[str]:
    """The situations, each a line."""
    text = (TESTS / "README.md").read_text(encoding="utf8")
    lines = text[text.index(FIRST) : text.index(LAST)].splitlines()
    return [line for line in lines if line.startswith("| ") and not line.endswith("| test |")]


def named(row: str) -> list[tuple[str, str, str]]:
    """File, function and case of each test in a row; a function may be cut by three dots."""
    found: list[tuple[str, str, str]] = []
    for quoted in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2]):
        if quoted.startswith("["):  # one more case of the test before
            found.append((*found[-1][:2], quoted[1:-1]))
            continue
        parts = re.fullmatch(r"([a-z0-9_/]+)::([a-z0-9_.]+)(?:\[(.+)\])?", quoted)
        assert parts, f"`{quoted}` is no test in the table's manner: {row}"
        found.append((parts[1], parts[2], parts[3] or ""))
    return found


def functions(file: str) -> tuple[list[str], str]:
    """The names of a file's tests, and its text."""
    folder, _, name = file.rpartition("/")
    text = (TESTS / folder / f"test_{name}.py").read_text(encoding="utf8")
    names = [n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
    return [name.removeprefix("test_") for name in names if name.startswith("test_")], text


ALL = [test for row in rows() for test in named(row)]


def test_every_situation_names_a_test() -> None:
    assert len(rows()) > 80
    assert [row for row in rows() if not named(row)] == []


@pytest.mark.parametrize("file", sorted({file for file, *_ in ALL}))
def test_each_test_that_is_named_is_there_and_the_only_one_that_is_meant(file: str) -> None:
    there, text = functions(file)
    for name, case in ((name, case) for other, name, case in ALL if other == file):
        start = name.removesuffix("...")
        meant = [t for t in there if t == name or (start != name and t.startswith(start))]
        assert len(meant) == 1, f"{file}::{name} may mean {meant}"
        assert case in text, f"{file}::{name} has no case {case}"

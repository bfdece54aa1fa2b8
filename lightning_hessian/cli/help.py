"""The help of a subcommand: one screen, and every option of it by groups."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from typing_extensions import override

from lightning_hessian.cli.guides import Guide

NARROWEST, WIDEST = 60, 100
COLUMN = 24
ALL = "all"


class BriefHelp(argparse._HelpAction):
    """``--help`` shows what is asked for most; ``--help=GROUP`` a group of options, or all."""

    def __init__(self, option_strings: Sequence[str], *, guide: Guide, **_: Any) -> None:
        super().__init__(option_strings)
        self.nargs = "?"
        self.metavar = "GROUP"
        self.help = "show what is asked for most, or every option of a group, and exit"
        self._guide = guide

    @override
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        """Print it, and end the program."""
        group = self._guide.other_names.get(values, values)
        if group is None:
            text = "\n".join(_screen(parser, self._guide)) + "\n"
        elif group == ALL:
            text = parser.format_help()
        elif group in self._guide.groups:
            text = _help_of(parser, group)
        else:
            known = ", ".join([*self._guide.groups, ALL])
            parser.error(f"`--help` must be alone, or followed by one of {known}, got {values!r}.")
        parser._print_message(text, sys.stdout)
        parser.exit()


def _screen(parser: argparse.ArgumentParser, guide: Guide) -> Iterator[str]:
    """The lines of the brief help."""
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    actions = {action.dest: action for action in parser._actions if action.help}
    yield from (parser.format_usage().rstrip(), "", str(parser.description), "")
    for name, text in guide.entries.items():
        if name in actions:
            yield from _entry(f"--{name}", text or _first(actions[name]), width)
    yield ""
    for group, about in guide.groups.items():
        within = [dest for dest in actions if _is_of(dest, group)]
        listed = f" {', '.join(_names(within, group))}" if group in guide.listed else ""
        # of what has a line already that says enough
        if within and group not in guide.entries:
            yield from _entry(f"--{group}", about + listed, width)
    yield ""
    yield from textwrap.wrap(
        f"--help={next(iter(guide.groups))} and the like tell all of a group, of module and data "
        f"too, --help={ALL} all there is.",
        width,
    )
    if guide.examples:
        yield from ("", "examples:", *(f"  {line}" for line in guide.examples))
    yield from ("", *textwrap.wrap(guide.codes, width))


def _entry(option: str, text: str, width: int) -> list[str]:
    """An option and its text, indented below each other where the option is long."""
    indent = " " * COLUMN
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    head = f"  {option}"
    if len(head) >= COLUMN - 1 or not lines:
        return [head, *lines]
    return [head + lines[0][len(head) :], *lines[1:]]


def _first(action: argparse.Action) -> str:
    return " ".join(str(action.help).split())


def _is_of(dest: str, group: str) -> bool:
    return dest == group or dest.startswith(f"{group}.")


def _names(within: Sequence[str], group: str) -> Mapping[str, None]:
    """The options of a group in their order, each with what is below it as one."""
    below = (dest.removeprefix(f"{group}.").split(".") for dest in within if dest != group)
    return {f".{first}": None for first, *_ in below}


def _help_of(parser: argparse.ArgumentParser, group: str) -> str:
    """The options of a group as the parser tells them, all others left out."""
    others = [action for action in parser._actions if not _is_of(action.dest, group)]
    told = [action.help for action in others]
    for action in others:
        action.help = argparse.SUPPRESS
    try:
        return parser.format_help()
    finally:
        for action, text in zip(others, told, strict=True):
            action.help = text

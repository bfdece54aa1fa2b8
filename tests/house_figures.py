"""Figures of the package's own code: how large its parts are, how deep it goes.

``python -m tests.house_figures [PACKAGE_DIR]`` counts what stands in the files of the package;
with ``--trace`` it also follows one measurement at the end of a small fit, of the package that is
imported. A line of code is one that holds anything but comments and docstrings.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import sys
import threading
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).parent.parent / "lightning_hessian"
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>")
"""Frames of their own in some versions of Python, in others not."""

MANY_LINES = 40
"""Lines of code that few functions should have more of."""

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


@dataclass(frozen=True)
class Source:
    """One file, read and parsed."""

    name: str
    text: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Of the whole tree."""
        return list(ast.walk(ast.parse(self.text)))

    @property
    def num_lines(self) -> int:
        """Blank ones included."""
        return len(self.text.splitlines())

    @cached_property
    def docstring_lines(self) -> set[int]:
        """Their numbers."""
        found: set[int] = set()
        for node in self.nodes:
            if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
                found.update(_lines(node.body[0]))
            # the docstring of a constant, which stands below it
            for one, below in zip(_body(node), _body(node)[1:], strict=False):
                if isinstance(one, ast.Assign | ast.AnnAssign) and _is_text(below):
                    found.update(_lines(below))
        return found

    @cached_property
    def code_lines(self) -> set[int]:
        """Their numbers."""
        found: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in NO_CODE:
                found.update(range(token.start[0], token.end[0] + 1))
        return found - self.docstring_lines

    def functions(self) -> Iterator[tuple[str, Function, int]]:
        """Each with where it stands and its lines of code."""
        for node in self.nodes:
            if isinstance(node, Function):
                place = f"{self.name}:{node.lineno} {node.name}"
                yield place, node, len(self.code_lines & _lines(node))


def _lines(node: Any) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))


def _body(node: ast.AST) -> list[ast.stmt]:
    body = getattr(node, "body", [])
    return body if isinstance(body, list) else []


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def sources(package: Path) -> list[Source]:
    """Every file, in the order of their names."""
    return [
        Source(str(path.relative_to(package)), path.read_text(encoding="utf8"))
        for path in sorted(package.rglob("*.py"))
    ]


def num_arguments(function: Function) -> int:
    """All that a caller may give, without ``self`` and ``cls``."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    extra = sum(each is not None for each in (given.vararg, given.kwarg))
    return len([name for name in names if name not in ("self", "cls")]) + extra


def longest_inheritance(files: list[Source]) -> list[tuple[str, str]]:
    """Class and file, from the class that inherits most down to its first own ancestor."""
    classes = {
        node.name: (source.name, [_name(base) for base in node.bases])
        for source in files
        for node in source.nodes
        if isinstance(node, ast.ClassDef)
    }

    def chain(name: str) -> list[tuple[str, str]]:
        file, bases = classes[name]
        own = [chain(base) for base in bases if base in classes and base != name]
        return [(name, file), *max(own, key=len, default=[])]

    return max(map(chain, classes), key=lambda found: (len(found), len({f for _, f in found})))


def _name(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        return _name(base.value)
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def figures(package: Path) -> dict[str, str]:
    """What is counted, in words."""
    files = sources(package)
    functions = [each for source in files for each in source.functions()]
    place, _, length = max(functions, key=lambda each: each[2])
    greedy = max(functions, key=lambda each: num_arguments(each[1]))
    longest = max(files, key=lambda source: source.num_lines)
    chain = longest_inheritance(files)
    return {
        "files": f"{len(files):,}",
        "lines": f"{sum(source.num_lines for source in files):,}",
        "code lines": f"{sum(len(source.code_lines) for source in files):,}",
        "docstring lines": f"{sum(len(source.docstring_lines) for source in files):,}",
        "median file": f"{statistics.median(source.num_lines for source in files):g} lines",
        "longest file": f"{longest.num_lines} lines, {longest.name}",
        "longest function": f"{length} code lines, {place}",
        f"functions over {MANY_LINES} code lines": str(sum(n > MANY_LINES for *_, n in functions)),
        "most arguments": f"{num_arguments(greedy[1])}, {greedy[0]}",
        "depth of inheritance": f"{len(chain)}: {' < '.join(name for name, _ in chain)}",
        "files of that chain": str(len({file for _, file in chain})),
    }


@dataclass
class Trace:
    """Follows calls between the start of a function of the package and its return.

    Attributes:
        package: Folder of the files that count.
        within: Name of the function.
        files: Entered meanwhile.
        deepest: The stack with most functions of the package on it, comprehensions left out.
        outermost: The call that is followed, while it lasts.
    """

    package: str
    within: str
    files: set[str] = field(default_factory=set)
    deepest: list[str] = field(default_factory=list)
    outermost: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """What ``sys.setprofile`` calls."""
        if not frame.f_code.co_filename.startswith(self.package):
            return
        if event == "return" and frame is self.outermost:
            self.outermost = None
        if event != "call":
            return
        if self.outermost is None and frame.f_code.co_name == self.within:
            self.outermost = frame
        if self.outermost is not None:
            self.files.add(frame.f_code.co_filename)
            self.deepest = max(self.deepest, self._stack(frame), key=len)

    def _stack(self, frame: FrameType | None) -> list[str]:
        found = []
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(self.package) and code.co_name not in COMPREHENSIONS:
                found.append(f"{code.co_filename.removeprefix(self.package)} {code.co_name}")
            frame = frame.f_back
        return found[::-1]


def traced_fit() -> Trace:
    """Of a small classifier, measured with the callback's defaults."""
    import lightning_hessian
    from tests.helpers.fitting import Classifier, loader, trainer

    trace = Trace(f"{Path(lightning_hessian.__file__).parent}/", "on_train_end")
    # measured at the end of the epoch, nothing would be left to do at the end of the fit
    callback = lightning_hessian.HessianSpectrum(every_n_epochs=None, max_overhead=None)
    fit = trainer(callback)
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        fit.fit(Classifier(), loader())
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert callback.reports[-1].failure is None, callback.reports[-1].failure
    return trace


def main() -> None:
    """Print a figure a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", nargs="?", type=Path, default=PACKAGE)
    parser.add_argument("--trace", action="store_true", help="follow a measurement, too")
    parser.add_argument("--stack", action="store_true", help="and show its deepest stack")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = figures(options.package)
    if options.trace or options.stack:
        trace = traced_fit()
        found["files entered by a measurement"] = str(len(trace.files))
        found["deepest frames of the package"] = str(len(trace.deepest))
    for name, value in found.items():
        print(f"{name:<32} {value}")
    if options.stack:
        print("\n".join(trace.deepest))


if __name__ == "__main__":
    main()

"""Every example runs as the README says, as a program of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.example


def run(*arguments: str) -> str:
    """Standard output of an example; a failure shows its last words."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_demo_prints_its_table_and_saves_its_panels(tmp_path: Path) -> None:
    output = run("examples/demo.py", "--out", str(tmp_path), "--epochs", "2")
    assert "largest eigenvalue" in output
    assert f"tensorboard --logdir {tmp_path}" in output
    for name in ("spectrum_at_start", "spectrum", "history"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_product_cost_benchmark_prints_both_networks() -> None:
    output = run("examples/benchmarks/product_cost.py", "--repetitions", "1")
    assert "MLP, digits" in output
    assert "ResNet-20" in output


def test_code_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf8")
    parts = text.split("## The parts")[1]
    code = parts.split("```python\n")[1].split("```")[0]
    assert "tensor" in run("-c", code)

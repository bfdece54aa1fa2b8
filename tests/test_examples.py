"""Every example runs as the README says, as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from examples.benchmarks import gpu_products
from tests.helpers.programs import ROOT, Ended, run_program

pytestmark = pytest.mark.example


def run(*arguments: str) -> str:
    """Standard output of an example; a failure shows its last words."""
    ended = run_program(*arguments)
    assert ended.code == 0, ended.errors[-3000:]
    return ended.output


def test_a_program_says_how_it_ends_and_knows_nothing_of_the_tests() -> None:
    code = "import sys; print({'pytest', 'lightning_hessian'} & sys.modules.keys(), __name__)"
    assert run_program("-c", code) == Ended(0, "set() __main__\n", "")
    assert run_program("-c", "raise SystemExit('why')") == Ended(1, "", "why\n")
    broken = run_program("-c", "1 / 0")
    assert (broken.code, broken.errors.splitlines()[-1]) == (
        1,
        "ZeroDivisionError: division by zero",
    )
    with pytest.raises(AssertionError, match="hangs"):
        run_program("-c", "import time; time.sleep(60)", seconds=0.1)


def test_demo_prints_its_table_and_saves_its_panels(tmp_path: Path) -> None:
    command = (sys.executable, "examples/demo.py", "--out", str(tmp_path), "--epochs", "2")
    # the only one in which torch and Lightning are imported by the program itself
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=one, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    output = done.stdout
    assert "largest eigenvalue" in output
    assert f"tensorboard --logdir {tmp_path}" in output
    assert "one more sample moves the loss by" in output
    for name in ("spectrum_at_start", "spectrum", "history", "loss_difference"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_random_matrices_are_compared_and_drawn(tmp_path: Path) -> None:
    arguments = ("--out", str(tmp_path), "--epochs", "2", "--steps", "20")
    output = run("-m", "examples.random_matrices", *arguments)
    rows = output.rsplit("|---|", 1)[1].splitlines()[1:-1]
    assert [row.split(" | ")[:2] for row in rows] == [
        [f"| {name}", moment] for name in ("tanh", "relu", "digits") for moment in ("start", "end")
    ]
    for name in ("tanh_start", "relu_end", "digits_end", "spin_glass"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


BENCHMARK_PEERS = {
    "PyHessian": "pyhessian",
    "eigenthings": "hessian_eigenthings",
    "curvlinops": "curvlinops",
}


QUICK = ("--quick", "--threads", "1")


def rows_of(output: str) -> dict[str, list[str]]:
    """Cells of the lines of a benchmark's last table, by the first one."""
    table = output.rsplit("|---|", 1)[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:] if " | " in line]
    return {cells[0]: cells[1:] for cells in rows}


def test_reports_in_the_peers_benchmark_have_the_accuracy_asked_of_all() -> None:
    rows = rows_of(run("-m", "examples.benchmarks.peers", *QUICK, "--sets", "equal"))
    largest, smallest, trace, *_ = rows["ours"]
    # relative errors against the dense spectrum; the trace of one seed, within four of its 5 %
    assert float(largest) < 1e-3
    assert float(smallest) < 1e-2
    assert float(trace.removesuffix(" (!)")) < 0.2
    # `make slow` installs those that are missing
    for peer in (name for name, module in BENCHMARK_PEERS.items() if find_spec(module)):
        # at the settings found for them
        theirs = [cells for name, cells in rows.items() if name.startswith(peer)]
        assert theirs, peer
        for largest, smallest, *_ in theirs:
            assert float(largest) < 1e-3, peer
            assert float(smallest) < 1e-2, peer


def test_product_cost_benchmark_prints_every_way_that_is_installed() -> None:
    output = run("-m", "examples.benchmarks.product_cost", *QUICK)
    names = {name.split(",")[0] for name in rows_of(output)}
    there = {name for name, module in BENCHMARK_PEERS.items() if find_spec(module) is not None}
    assert names == {"ours"} | there


def test_searches_say_how_each_start_ended() -> None:
    output = run(
        "-m", "examples.benchmarks.searches", "index", "--starts", "2", "--max-hvps", "150"
    )
    assert output.count("The budget was spent, 144 products") == 2
    assert output.splitlines()[-1] == "2 budget spent"


def test_overhead_benchmark_prints_both_trainings() -> None:
    output = run("-m", "examples.benchmarks.overhead", *QUICK)
    assert "demo, 1 epoch(s)" in output
    assert "stand-in for MNIST, 1 epoch(s)" in output
    assert output.count("| defaults | +") == 2


def test_gpu_benchmark_makes_on_a_cpu_what_has_a_meaning_there() -> None:
    output = run("-m", "examples.benchmarks.gpu", "--device", "cpu", "--quick")
    for title in ("Products", "Reports in a training", "The price", "The GPU's report"):
        assert f"\n**{title}" in output
    assert "Peaks of memory are left out" in output
    assert "Waits of the host for the GPU are left out" in output
    # both reports are the CPU's: the same weights and samples give the same numbers
    loss, largest, trace, *products = rows_of(output)["digits"]
    assert (loss, largest, trace) == ("0.0e+00", "0.0e+00", "0.0e+00")
    assert products[0] == products[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_benchmark_says_what_to_do_where_there_is_no_gpu() -> None:
    done = run_program("-m", "examples.benchmarks.gpu")
    assert done.code == 1
    assert "no GPU" in done.errors
    assert "`--device cpu`" in done.errors


def test_waits_for_a_gpu_are_counted_by_torchs_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with gpu_products.counted_waits() as count:
        for _ in range(3):  # at one place, of which Python would tell once
            warnings.warn(f"{gpu_products.SYNCHRONISING} (Triggered internally)", stacklevel=1)
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
        assert count() == 3
    assert modes == ["warn", 0]


def test_processes_benchmark_prints_the_ratio() -> None:
    options = ("--repetitions", "1", "--max-hvps", "8", "--samples", "512")
    output = run("examples/benchmarks/processes.py", *options)
    assert "wall time       one process" in output
    assert ", ratio " in output


def test_loss_difference_benchmark_prints_the_ratio_of_times_and_errors() -> None:
    options = ("--samples", "500", "--epochs", "1", "--repetitions", "1")
    benchmark = ("-m", "examples.benchmarks.loss_difference")
    output = run(*benchmark, *options, "--reference-orders", "2000")
    assert "our whole job" in output
    errors = [line.split() for line in output.splitlines() if "standard errors" in line][1:]
    assert [int(row[0]) for row in errors][-1] == 499
    # against 2,000 orders, in standard errors
    assert all(abs(float(row[-3])) < 4 for row in errors)


def test_subsampling_benchmark_prints_errors_coverage_and_cost() -> None:
    parts = ("--samples", "300", "--refined", "900", "--repetitions", "2", "--threads", "1")
    products = ("--dimension", "8", "--probes", "8", "--truth", "16", "8")
    output = run("-m", "examples.benchmarks.subsampling", *parts, *products)
    # 300 images times 8 of the space, 8 probes and 3 directions, and these on 900 more
    assert "samples x products 8,400; PyHessian 125,790: 15 times" in output
    for name in ("in-sample interval", "interval", "trace", "density"):
        assert f"\n{name} holds the truth in " in output


def test_sample_size_study_prints_tables_and_verdicts_and_saves(tmp_path: Path) -> None:
    settings = ("--widths", "4", "16", "--depths", "1", "5", "--seeds", "2")
    sizes = ("--samples", "300", "--epochs", "1", "--out", str(tmp_path))
    output = run("-m", "examples.sample_size_study", *settings, *sizes)
    assert output.count("digits, 300 training samples, mean +- spread over seeds") == 2
    for question in ("is the difference smaller in wider", "is the difference larger in deeper"):
        assert question in output
    for name in ("width", "depth"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    study = json.loads((tmp_path / "study.json").read_text())
    # width 16 at depth 5 belongs to both
    assert len(study["runs"]) == 2 * (2 + 2 - 1)
    assert len((tmp_path / "study.csv").read_text().splitlines()) == 1 + 6
    report = study["runs"][0]["report"]
    variance, curves = report["spread"]["variance"]["value"], report["differences"]
    rms = [(variance / (k * (k + 1))) ** 0.5 for k in curves["sample_sizes"]]
    assert curves["rms"] == pytest.approx(rms)


def test_band_study_prints_tables_and_verdicts_and_saves(tmp_path: Path) -> None:
    config = ("--config", "configs/band.yaml", "--out", str(tmp_path))
    settings = ("--widths", "3", "6", "--networks", "8", "--epochs", "3", "1", "--points", "1")
    sizes = ("--samples", "200", "--most-counted", "300")
    output = run("-m", "examples.band_study", *config, *settings, *sizes)
    for epochs in (3, 1):
        assert f"{epochs} epochs, 200 samples, 8 networks" in output
    assert output.count("  one power law: ") == 4
    # 235 parameters are counted, of 460 there is a bracket
    rows = [line for line in output.splitlines() if "relative_1e-3" in line]
    assert [" to " in row for row in rows] == [False, True] * 2
    assert (tmp_path / "band.png").read_bytes().startswith(b"\x89PNG")
    bands = json.loads((tmp_path / "study.json").read_text())
    assert [(band["width"], band["epochs"]) for band in bands] == [(3, 3), (6, 3), (3, 1), (6, 1)]
    assert all(len(band["train"]) == len(band["test"]) == 8 for band in bands)


def test_index_study_prints_tables_and_saves_all_points(tmp_path: Path) -> None:
    config = ("--config", "configs/index.yaml", "--quick", "--out", str(tmp_path))
    output = run("-m", "examples.index_study", *config)
    assert "32 parameters, phi = 0.5" in output
    for name, starts in (("weight decay 0.003", 24), ("no weight decay", 2)):
        assert f"searches, {name}: {starts} starts, " in output
    assert "\nsaddles, both " in output.split("power law over")[1]
    assert "too few for a statement" in output
    assert (tmp_path / "index.png").read_bytes().startswith(b"\x89PNG")
    study = json.loads((tmp_path / "study.json").read_text())
    points = study["points"]
    assert len(points["starts"]) == 24
    # weights of zero are among them
    assert {each["index"] for each in points["embedded"]} >= {0.5}
    assert all(each["gradient_norm"] < 1e-8 for each in points["searched"] + points["embedded"])
    assert all(each["gradient_left"] > 0.5 for each in points["fakes"])
    assert [(each["ratio"], each["weight_decay"]) for each in study["minima"]] == [
        (0.5, 0.0),
        (0.5, 0.003),
    ]


def test_edge_study_prints_every_training_and_every_rate_and_saves(tmp_path: Path) -> None:
    sizes = ("--steps", "20", "--every", "10", "--samples", "60", "--rates", "2", "--seeds", "1")
    sizes += ("--minibatch-steps", "20")
    output = run("-m", "examples.edge_study", *sizes, "--out", str(tmp_path))
    assert "60 digits, 20 steps" in output
    for optimizer in ("SGD 0.3: ", "SGD 1: ", "SGD 2: ", "Adam 0.02: ", "RMSprop 0.003: "):
        assert f"\n{optimizer}" in output
    assert "\n  0.25  stable (" in output
    assert "\n     4  diverged (" in output
    for name in ("edge", "minibatches"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "study.json").read_text())
    sizes_of = [(c["batch_size"], c["momentum"]) for c in numbers["by_minibatches"]]
    assert sizes_of == [(size, momentum) for momentum in (0.0, 0.9) for size in (1, 6, 60)]
    # an adaptive optimiser has no edge before its first step
    assert [course["steps"] for course in numbers["courses"]] == [[0, 10, 20]] * 3 + [[10, 20]] * 2
    assert [course["threshold"] for course in numbers["courses"]] == pytest.approx(
        [2, 2, 2, 3.8, 2]
    )


def test_reinforcement_learning_prints_what_is_exact_beside_what_is_measured(
    tmp_path: Path,
) -> None:
    options = ("--epochs", "1", "--episodes", "256")
    output = run("examples/reinforcement_learning.py", "--out", str(tmp_path), *options)
    assert "106 parameters, 256 episodes" in output
    # at the start, and after 256 / 256 steps
    spectra = [line.split() for line in output.splitlines() if " to 0." in line]
    assert [line[0] for line in spectra if line[0].isdigit()] == ["0", "1"]
    # the kind of point at both; the edge of stability is there from the first step of Adam on
    points = [line.split() for line in output.splitlines() if " critical " in line][:2]
    assert [line[0] for line in points] == ["0", "1"]
    assert len(points[1]) == len(points[0]) + 3
    assert "Stable: " in output
    for name in ("spectrum_at_start", "spectrum_at_end", "kind_of_point"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_fabric_prints_its_table_and_logs(tmp_path: Path) -> None:
    options = ("--epochs", "1", "--samples", "256")
    output = run("examples/fabric.py", "--out", str(tmp_path), *options)
    assert "2,410 parameters, 256 of 1,797 samples of the digits" in output
    assert [line.split()[0] for line in output.splitlines() if " to 0." in line] == ["0", "15"]
    assert list(tmp_path.glob("events.*"))


def test_gan_prints_a_spectrum_for_each_network(tmp_path: Path) -> None:
    output = run("examples/gan.py", "--out", str(tmp_path), "--epochs", "1", "--samples", "256")
    for number, name in enumerate(("generator", "discriminator")):
        assert f"{name}: manual_backward {number}" in output
    assert list(tmp_path.rglob("events.*"))


def test_code_of_the_parts_runs_without_a_trainer() -> None:
    text = (ROOT / "docs" / "measured.md").read_text(encoding="utf8")
    parts = text.split("## The parts")[1]
    code = parts.split("```python\n")[1].split("```")[0]
    assert "tensor" in run("-c", code)

"""Against W&B, offline, and MLflow, on a file store: what a person finds there afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.pages import page_in
from tests.helpers.spectrum import spectrum, steps
from tests.helpers.wandb_files import history_of

# of these packages and what they stand on
pytestmark = [pytest.mark.cross_library, pytest.mark.filterwarnings("default")]


def fit(logger: Any) -> Any:
    callback = spectrum(density=True)
    trainer(callback, logger=logger, max_epochs=2, log_every_n_steps=1).fit(Classifier(), loader())
    return callback


def steps_on(path: Path) -> list[int]:
    (run,) = page_in(path).data
    return [entry["step"] for entry in run["entries"]]


def test_wandb_has_page_pictures_and_histograms_beside_undisturbed_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="W&B is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    callback = fit(WandbLogger(save_dir=tmp_path, offline=True, project="curvature"))
    wandb.finish()
    wandb.teardown()  # its process has written all, once it has ended
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = history_of(file)

    def logged(key: str) -> list[tuple[int, Any]]:
        return [(row["trainer/global_step"], row[key]) for row in rows if key in row]

    # Lightning logs a loss at the number of optimiser steps before it
    assert [step for step, _ in logged("train_loss")] == list(range(8))
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    wanted = [(report.step, report.loss) for report in callback.reports]
    np.testing.assert_allclose(logged("hessian/loss"), wanted)
    media = file.parent / "files"
    ((step, page),) = logged("hessian/page")
    assert (step, page["_type"]) == (8, "html-file")
    assert steps_on(media / page["path"]) == steps(callback)
    pictures = logged("hessian/spectrum")
    assert [step for step, _ in pictures] == steps(callback)
    for _, picture in pictures:
        assert picture["_type"] == "image-file"
        assert (media / picture["path"]).read_bytes().startswith(b"\x89PNG")
    histograms = logged("hessian/density")
    assert [step for step, _ in histograms] == steps(callback)
    for (_, histogram), report in zip(histograms, callback.reports, strict=True):
        assert histogram["_type"] == "histogram"
        assert sum(histogram["values"]) == pytest.approx(report.num_parameters)


def test_mlflow_has_page_and_pictures_as_artifacts_beside_undisturbed_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    # since its version 3.10 a folder must be allowed
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger("curvature", tracking_uri=f"file:{tmp_path}")
    callback = fit(logger)
    run = logger.run_id
    client = logger.experiment
    (folder,) = tmp_path.glob(f"*/{run}/artifacts")
    assert steps_on(folder / "hessian.html") == steps(callback)
    pictures = sorted(path.name for path in folder.glob("hessian/spectrum*"))
    assert pictures == [f"spectrum_step_{step:08d}.png" for step in steps(callback)]
    for name in pictures:
        assert (folder / "hessian" / name).read_bytes().startswith(b"\x89PNG")
    losses = [(each.step, each.value) for each in client.get_metric_history(run, "hessian/loss")]
    np.testing.assert_allclose(losses, [(r.step, r.loss) for r in callback.reports])
    assert [each.step for each in client.get_metric_history(run, "train_loss")] == list(range(8))

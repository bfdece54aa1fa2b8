"""MLflow: pictures and pages are artifacts of the run."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import Logger

from lightning_hessian.show.media.taker import Image, has_method


class MlflowTaker:
    """Writes artifacts through the logger's client."""

    def __init__(self, logger: Logger) -> None:
        self._logger: Any = logger

    @staticmethod
    def is_of(logger: Logger) -> bool:
        """Whether it logs to MLflow, whose client is of no run."""
        return has_method(logger, "log_batch") and hasattr(logger, "run_id")

    def take_image(self, image: Image, *, name: str, step: int) -> None:
        """As a PNG file of its own."""
        file = f"{name}_step_{step:08d}.png"
        self._logger.experiment.log_image(self._logger.run_id, image, artifact_file=file)

    def take_page(self, page: str, *, name: str, step: int) -> None:  # noqa: ARG002
        """As ``<name>.html``, which MLflow shows."""
        self._logger.experiment.log_text(self._logger.run_id, page, f"{name}.html")

"""Comet: pictures are among its graphics, pages among its assets."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import Logger

from lightning_hessian.show.media.taker import Image, has_method


class CometTaker:
    """Logs through the logger's experiment."""

    def __init__(self, logger: Logger) -> None:
        self._logger: Any = logger

    @staticmethod
    def is_of(logger: Logger) -> bool:
        """Whether it logs to Comet."""
        return has_method(logger, "log_histogram_3d")

    def take_image(self, image: Image, *, name: str, step: int) -> None:
        """Under its name, at its step."""
        self._logger.experiment.log_image(image, name=name, step=step)

    def take_page(self, page: str, *, name: str, step: int) -> None:
        """As an asset: in Comet's HTML tab it would become part of the user's own document."""
        self._logger.experiment.log_asset_data(page, name=f"{name}.html", step=step, overwrite=True)

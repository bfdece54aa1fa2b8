"""TensorBoard's application over a folder, called without a process or a port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard import default, program
from tensorboard.backend import application
from tensorboard.backend.event_processing.data_ingester import LocalDataIngester
from werkzeug.test import Client


class Application:
    """TensorBoard's application over a folder that was read once, as all flags have it."""

    def __init__(self, logdir: Path, *flags: str) -> None:
        board = program.TensorBoard(default.get_plugins())
        once = ("--reload_interval=0", "--reload_task=blocking", "--load_fast=false")
        board.configure(["", "--logdir", str(logdir), *once, *flags])
        ingester = LocalDataIngester(board.flags)
        ingester.start()
        self.provider = ingester.data_provider
        """Of the data, as plugins see them."""
        self._client = Client(
            application.TensorBoardWSGIApp(
                board.flags, board.plugin_loaders, ingester.data_provider
            )
        )

    def get(self, path: str, **query: str) -> Any:
        """The response to a request."""
        return self._client.get(f"/data/{path}", query_string=query)

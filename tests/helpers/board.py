"""What TensorBoard makes of the files that it finds."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.data.server_ingester import ExistingServerDataIngester, get_server_binary
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.util.grpc_util import ChannelCredsType

PATIENCE, PAUSE = 20.0, 0.02
"""Seconds for which the fast reader may load, and between two looks at what it has."""


@dataclass(frozen=True)
class Board:
    """A folder of runs as it stands in TensorBoard.

    Attributes:
        runs: Names in the list of runs.
        custom_scalars: That page as its plugin serves it: category to title to chart.
    """

    runs: frozenset[str]
    custom_scalars: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, directory: Path, *, fast: bool = False) -> Board:
        """By the reader in Python, or the fast one, which TensorBoard takes where it can."""
        if not fast:
            multiplexer = EventMultiplexer().AddRunsFromDirectory(str(directory))
            multiplexer.Reload()
            return _seen(MultiplexerDataProvider(multiplexer, str(directory)))
        written = {file.parent for file in directory.rglob("*tfevents*")}
        deadline = time.monotonic() + PATIENCE
        with _served(directory) as provider:
            before, now = None, _seen(provider)
            while before != now or len(now.runs) < len(written):
                assert time.monotonic() < deadline, "TensorBoard's reader does not come to an end"
                time.sleep(PAUSE)
                before, now = now, _seen(provider)
        return now


@contextmanager
def _served(directory: Path) -> Iterator[Any]:
    """The fast reader, in a process of its own."""
    with TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        command = [get_server_binary().path, f"--logdir={directory}", "--reload=once"]
        command += ["--port=0", f"--port-file={port}", "--die-after-stdin"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
            while not (port.exists() and port.read_text().endswith("\n")):
                assert server.poll() is None
                time.sleep(PAUSE)
            address = f"localhost:{int(port.read_text())}"
            yield ExistingServerDataIngester(
                address, channel_creds_type=ChannelCredsType.LOCAL
            ).data_provider


def _seen(provider: Any) -> Board:
    runs = provider.list_runs(RequestContext(), experiment_id="")
    context = TBContext(data_provider=provider, plugin_name_to_instance={})
    page = CustomScalarsPlugin(context).layout_impl(RequestContext(), "")
    categories = json.loads(page)["category"] if page else []
    return Board(
        frozenset(run.run_name for run in runs),
        {each["title"]: {c["title"]: c for c in each["chart"]} for each in categories},
    )

"""The plugin by which TensorBoard finds and serves the Hessian tab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from lightning_hessian.tab.entries import (
    MOST_ENTRIES,
    PLUGIN_NAME,
    as_json,
    list_series,
    read_entries,
    read_losses,
)
from lightning_hessian.tab.page import STATIC

SCRIPTS = ("index.js", "surface.js")
ANSWERS: Mapping[str, Callable[..., Any]] = {"/entries": read_entries, "/losses": read_losses}
"""Of one run."""


class HessianTab(base_plugin.TBPlugin):  # type: ignore[misc]
    """Serves the page's script, and what it asks for, through TensorBoard's data provider.

    Args:
        context: TensorBoard's.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._provider = context.data_provider

    def get_plugin_apps(self) -> dict[str, Any]:
        """What is served, by its address below the plugin's.

        Returns:
            Address to WSGI application.
        """
        apps: dict[str, Any] = {f"/{name}": partial(_serve_script, name) for name in SCRIPTS}
        apps["/series"] = self._serve_series
        apps |= {path: partial(self._serve_of_run, answer) for path, answer in ANSWERS.items()}
        return apps

    def is_active(self) -> bool:
        """Whether TensorBoard lists the tab: it then looks for our data by itself.

        Returns:
            False.
        """
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """How the tab is called, and the script that draws it.

        Returns:
            Its description.
        """
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Hessian")

    def _serve_series(self, environ: Any, start: Any) -> Any:
        return _answer(environ, start, partial(list_series, self._provider))

    def _serve_of_run(self, read: Callable[..., Any], environ: Any, start: Any) -> Any:
        run = wrappers.Request(environ).args.get("run")
        if run is None:
            request = wrappers.Request(environ)
            words = "`run` must name a run, and is missing."
            return http_util.Respond(request, words, "text/plain", code=400)(environ, start)
        return _answer(environ, start, partial(read, self._provider, run=run))


class HessianTabLoader(base_plugin.TBLoader):  # type: ignore[misc]
    """Makes the plugin, and asks TensorBoard to keep more than ten of our reports."""

    def fix_flags(self, flags: Any) -> None:
        """Raise the number of entries that are kept of a series, unless the user said one.

        Args:
            flags: As given to TensorBoard.
        """
        flags.samples_per_plugin = {
            PLUGIN_NAME: MOST_ENTRIES,
            **(getattr(flags, "samples_per_plugin", None) or {}),
        }

    def load(self, context: base_plugin.TBContext) -> HessianTab:
        """Make the plugin.

        Args:
            context: TensorBoard's.

        Returns:
            The tab.
        """
        return HessianTab(context)


def _answer(environ: Any, start: Any, read: Callable[..., Any]) -> Any:
    """Send as JSON what is read for a request."""
    answer = read(plugin_util.context(environ), plugin_util.experiment_id(environ))
    content = as_json(answer)
    request = wrappers.Request(environ)
    return http_util.Respond(request, content, "application/json")(environ, start)


def _serve_script(name: str, environ: Any, start: Any) -> Any:
    request = wrappers.Request(environ)
    content = (STATIC / name).read_bytes()
    response = http_util.Respond(request, content, "application/javascript")
    return response(environ, start)

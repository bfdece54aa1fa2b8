"""The file of a search: its point as a checkpoint, which holds from where it goes on."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.fit import BESIDE
from lightning_hessian.show import as_json
from lightning_hessian.studies import FoundPoint, SearchState
from lightning_hessian.whole_files import write_anywhere

SEARCH = "lightning_hessian_search"
"""Entry of a checkpoint that a search wrote."""
OF_THE_TRAINING = frozenset(
    {"callbacks", "optimizer_states", "lr_schedulers", "averaging_state", BESIDE}
)
"""Entries that are of other weights than those found."""
ENDING = ".ckpt"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """Where a search keeps its point, and what besides.

    Attributes:
        path: Of the checkpoint; its report stands beside it as JSON.
        rest: What the checkpoint has of the one that the search began from.
        settings: What the loss was, in words and numbers, by their names.
    """

    path: str
    rest: Mapping[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, path: str, content: Mapping[str, Any], settings: Mapping[str, Any]) -> FoundFile:
        """At a path, of the content of the checkpoint that the search began from."""
        rest = {key: content[key] for key in content.keys() - OF_THE_TRAINING - {SEARCH}}
        return cls(path, rest, settings)

    @property
    def report_path(self) -> str:
        """Of the JSON file."""
        return self.path.removesuffix(ENDING) + ".json"

    def refuse_others(self, own: str | None) -> None:
        """Refuse a place that cannot be written, or that holds another file than its own.

        Args:
            own: The file that the search goes on from, if it does.

        Raises:
            ValueError: With the reason.
        """
        if not self.path.endswith(ENDING):
            raise ValueError(f"`save` must be a path that ends in {ENDING}, got {self.path!r}.")
        if "://" in self.path:
            return
        folder = os.path.dirname(self.path) or "."
        if not os.path.isdir(folder):
            raise ValueError(
                f"`save` must be in a folder that exists, got {self.path!r}. Make {folder!r} first."
            )
        is_own = own is not None and os.path.exists(own) and _is_same(own, self.path)
        for path in () if is_own else (self.path, self.report_path):
            if os.path.exists(path):
                raise ValueError(
                    f"`save` must not name a file that is there already, got {path}. Give the file "
                    "of a search as `checkpoint` to go on with it, or `save` another path."
                )

    def keep(self, state: SearchState, parameters: Mapping[str, Tensor]) -> None:
        """Write weights, as ``load_from_checkpoint`` reads them, and the state.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """
        found = {name: tensor.detach().cpu() for name, tensor in parameters.items()}
        kept = dict(self.rest) | {
            "state_dict": {**self.rest["state_dict"], **found},
            SEARCH: {"settings": dict(self.settings), "state": state.to_dict()},
        }
        buffer = io.BytesIO()
        torch.save(kept, buffer)
        write_anywhere(self.path, buffer.getvalue())

    def keep_report(self, found: FoundPoint) -> str:
        """Write the report, without its weights, with what follows from it in words.

        Returns:
            The path of the JSON file.

        Raises:
            OSError: If it cannot be written.
        """
        report = found.report
        told = {"verdict": report.verdict, "is_target": report.is_target}
        write_anywhere(self.report_path, as_json(told | report.to_dict()))
        return self.report_path


def found_path(ckpt_path: str, target: str, content: Mapping[str, Any]) -> str:
    """``<target>-of-<checkpoint>``, in its folder; the file itself where the search goes on.

    Args:
        ckpt_path: Of the checkpoint.
        target: In words.
        content: Of the checkpoint.

    Returns:
        The path.
    """
    if SEARCH in content and _target_in(content) == target:
        return ckpt_path
    folder, name = os.path.split(ckpt_path.rstrip("/"))
    name = f"{target.replace(' ', '-')}-of-{name}"
    return os.path.join(folder, name if name.endswith(ENDING) else name + ENDING)


def state_in(content: Mapping[str, Any], settings: Mapping[str, Any]) -> SearchState | None:
    """From where a search goes on; None where the checkpoint is not of one for this target.

    Args:
        content: Of the checkpoint.
        settings: Of the search.

    Returns:
        The state.

    Raises:
        ValueError: If the search in the checkpoint was of another loss.
        UnreadableCheckpointError: If the entry is damaged.
    """
    if SEARCH not in content or _target_in(content) != settings["target"]:
        return None
    known = content[SEARCH]["settings"]
    other = [name for name in settings if known.get(name) != settings[name]]
    if other:
        told = "; ".join(f"`{name}` was {known.get(name)!r}" for name in other)
        raise ValueError(
            f"`checkpoint` holds a search for {settings['target']} of another loss: {told}. Give "
            "the same to go on with it, or begin anew from the training's checkpoint."
        )
    try:
        return SearchState.from_dict(content[SEARCH]["state"])
    except (AttributeError, KeyError, TypeError) as error:
        raise UnreadableCheckpointError(
            f"`checkpoint` has an entry {SEARCH!r} that is not of this version ({error})."
        ) from error


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)


def _target_in(content: Mapping[str, Any]) -> Any:
    entry = content[SEARCH]
    try:
        return entry["settings"]["target"]
    except (KeyError, TypeError) as error:
        raise UnreadableCheckpointError(
            f"`checkpoint` has an entry {SEARCH!r} that is not of this version ({error})."
        ) from error

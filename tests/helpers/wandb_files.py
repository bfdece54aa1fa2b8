"""What stands in the file of an offline run of W&B."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024
HEADER = 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def history_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a run, each with all that was logged in one call."""
    messages = import_module("wandb.proto.wandb_internal_pb2")
    rows = []
    for content in _records(path.read_bytes()):
        record = messages.Record.FromString(content)
        if record.HasField("history"):
            rows.append(_row(record.history.item))
    return rows


def _row(items: Any) -> dict[str, Any]:
    """Media are taken apart into their fields, which are put together again."""
    row: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        place = row
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return row


def _records(content: bytes) -> Iterator[bytes]:
    """Of LevelDB's log: blocks of pieces, each behind a checksum, its length and its kind."""
    place, record = HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        length = int.from_bytes(content[place + 4 : place + 6], "little")
        kind = content[place + 6]
        if left < HEADER or kind == 0:
            place += left
            continue
        record += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""

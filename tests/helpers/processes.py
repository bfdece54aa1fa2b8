"""Runs a function in several forked processes that Lightning takes for a launched group."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy

from tests.helpers.fitting import trainer

SECONDS = 60


def in_processes(
    function: Callable[[int], Any], *, size: int = 2, seconds: float = SECONDS
) -> list[Any]:
    """What ``function(rank)`` returns in each process, which must be so within ``seconds``.

    The processes are forks: they know all that this one knows, and torch is not imported again.
    What they return is pickled; an error of one fails the test with its traceback.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_child, args=(function, rank, size, port, sender), daemon=True)
        for rank, (_, sender) in enumerate(pipes)
    ]
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, of which a worker of pytest has one
        warnings.simplefilter("ignore", DeprecationWarning)
        for process in processes:
            process.start()
    deadline = time.monotonic() + seconds
    try:
        results = [_received(receiver, rank, deadline) for rank, (receiver, _) in enumerate(pipes)]
    finally:
        for process in processes:
            process.kill()
            process.join()
    return results


def _received(receiver: Connection, rank: int, deadline: float) -> Any:
    if not receiver.poll(max(0.0, deadline - time.monotonic())):
        raise AssertionError(f"process {rank} hangs")
    is_done, result = pickle.loads(receiver.recv_bytes())
    if not is_done:
        raise AssertionError(f"process {rank} failed:\n{result}")
    return result


def _child(
    function: Callable[[int], Any], rank: int, size: int, port: int, sender: Connection
) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = (True, function(rank))
    except BaseException:
        result = (False, traceback.format_exc())
    sender.send_bytes(pickle.dumps(result))
    # not to be killed before the others have ended their last exchange with this one
    time.sleep(SECONDS)


def ddp_trainer(*callbacks: pl.Callback, size: int = 2, **options: Any) -> pl.Trainer:
    """A quiet Trainer for data-parallel training on the CPU, to be made in each process."""
    strategy = DDPStrategy(process_group_backend="gloo", **options.pop("ddp", {}))
    return trainer(*callbacks, devices=size, strategy=strategy, **options)

"""Random number generators of torch, numpy and Python: their state, and seeding them in place."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch


def generator_state(thing: object) -> Callable[[], object] | None:
    """A function that puts a generator back into its present state; None for what has none."""
    if isinstance(thing, torch.Generator):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, np.random.Generator):
        return partial(setattr, thing.bit_generator, "state", thing.bit_generator.state)
    if isinstance(thing, np.random.BitGenerator):
        return partial(setattr, thing, "state", thing.state)
    if isinstance(thing, np.random.RandomState):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, random.Random) and not isinstance(thing, random.SystemRandom):
        return partial(thing.setstate, thing.getstate())
    return None


def seed_generator(generator: Any, seed: int) -> None:
    """Seed a generator that :func:`generator_state` knows in place, below ``2**32``."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator | np.random.BitGenerator):
        bits: Any = getattr(generator, "bit_generator", generator)
        bits.state = type(bits)(seed).state
    else:
        generator.seed(seed)


def global_generator_state() -> Callable[[], None]:
    """A function that puts torch's, numpy's and Python's global generators back as they are now."""
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    numpy_state = np.random.get_state()  # noqa: NPY002 - the user's legacy generator
    python_state = random.getstate()

    def put_back() -> None:
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)

    return put_back


def seed_global_generators(seed: int) -> None:
    """Seed torch's, numpy's and Python's global generators."""
    # not `torch.manual_seed`: where CUDA is not initialised, it would leave a seed behind for it
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)

"""Which products a fit measures with: exact ones, or differences of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import (
    IndependentLossError,
    InterruptedMeasurementError,
    NoExactProductsError,
    NonFiniteError,
    RefusedError,
    RestorationError,
)
from lightning_hessian.hvp.difference_error import Probes
from lightning_hessian.hvp.differences import DifferenceProducts
from lightning_hessian.hvp.self_check import SelfCheck, compare_products
from lightning_hessian.hvp.silent_errors import refuse_silent_errors
from lightning_hessian.loss import LossProducts, TrainingLoss
from lightning_hessian.options import LossSetup
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Note

_OURS = (RefusedError, NonFiniteError, RestorationError, InterruptedMeasurementError)
_UNCHECKED = SelfCheck()


class Opener(Protocol):
    """Gives the loss of a fit inside a sandbox, with exact products unless told otherwise."""

    def __call__(
        self,
        frozen: FrozenBatches,
        dtype: torch.dtype,
        *,
        products: Callable[[TrainingLoss], LossProducts] | None = None,
        copies: bool = False,
    ) -> AbstractContextManager[TrainingLoss]:
        """Open a loss over some batches."""
        ...


class ProductChoice:
    """The choice of a fit, made once by a self-check, and the loss that follows from it.

    Exact products are refused where they do not exist or are wrong. With ``products="auto"``
    differences of gradients then take their place, in float64 unless ``precision=32`` is asked for
    or the step insists on float32: a difference of two gradients in float32 keeps three digits, and
    on a network of ReLUs not one, as it crosses kinks by the thousand. A gradient in float64 takes
    twice the time (3.5 times where it convolves), but is worth it.

    Args:
        setup: ``products``, ``precision`` and ``seed`` are obeyed.
        open_loss: Gives the loss.
        dtype: Type of exact products.
        frozen: What to measure on.
        specimen: Of which the first batch that has a loss is checked; if none has one, of
            ``frozen``.

    Attributes:
        notes: What to say of the choice in each report.
        is_doubtful: Whether the check found anything but exact products.
    """

    def __init__(
        self,
        setup: LossSetup,
        open_loss: Opener,
        dtype: torch.dtype,
        frozen: FrozenBatches,
        specimen: FrozenBatches,
    ) -> None:
        self._setup = setup
        self._open = open_loss
        self._frozen = frozen
        self._specimen = specimen
        self._dtype = dtype
        self._has_double = True
        self._reason: str | None = None
        self.notes: tuple[Note, ...] = ()
        self.is_doubtful = False

    @classmethod
    def made(
        cls,
        setup: LossSetup,
        open_loss: Opener,
        dtype: torch.dtype,
        frozen: FrozenBatches,
        specimen: FrozenBatches,
    ) -> ProductChoice:
        """Choose, by a self-check on all processes.

        Raises:
            NoExactProductsError: If exact products are insisted on, and there are none.
        """
        choice = cls(setup, open_loss, dtype, frozen, specimen)
        try:
            check = choice._self_check()
        except NoExactProductsError as error:
            if setup.loss.products == "exact":
                raise
            check, choice._reason = _UNCHECKED, str(error)
        choice.is_doubtful = choice._reason is not None or check.verdict != "exact"
        if setup.loss.products == "finite_difference":
            choice._reason = choice._reason or "`products='finite_difference'` was asked for."
        if choice._reason is None:
            choice.notes = check.notes
        else:
            choice.notes = (*_note_on_stopped_gradients(check), *choice._settle_precision())
        return choice

    @contextmanager
    def opened(self) -> Iterator[TrainingLoss]:
        """The loss at the present parameters; not to be used after the block."""
        if self._reason is None:
            with self._open(self._frozen, self._dtype) as loss:
                yield loss
            return
        reference = None
        if self._dtype == torch.float32 and self._has_double:
            with self._differences(torch.float64) as (_, reference):
                pass
        with self._differences(self._dtype, reference) as (loss, _):
            yield loss

    @contextmanager
    def _differences(
        self, dtype: torch.dtype, reference: Probes | None = None
    ) -> Iterator[tuple[TrainingLoss, Probes]]:
        generator = torch.Generator().manual_seed(self._setup.seed)
        with self._open(self._frozen, dtype, products=DifferenceProducts, copies=True) as loss:
            products = loss.products
            assert isinstance(products, DifferenceProducts)
            reason = self._reason or ""
            yield loss, products.calibrate(generator=generator, reason=reason, reference=reference)

    def _settle_precision(self) -> tuple[Note, ...]:
        """Find out whether the step can compute in float64; returns what to say if it cannot."""
        if self._setup.loss.precision != 32:
            self._dtype = torch.float64
        try:
            with self._open(
                self._frozen, torch.float64, products=DifferenceProducts, copies=True
            ) as loss:
                loss.gradient()
        except _OURS:
            raise
        except Exception as error:
            if self._setup.loss.precision == 64:
                raise
            self._dtype, self._has_double = torch.float32, False
            text = (
                f"Differences of gradients are in float32, as the step fails in float64 "
                f"({type(error).__name__}: {error})."
            )
            return (Note("differences-in-float32", text),)
        return ()

    def _self_check(self) -> SelfCheck:
        """Are exact products exact? Refuses what is not, returns what to beware of."""
        for specimen in (self._specimen, self._frozen):
            with self._open(specimen, self._dtype) as loss:
                processes = loss.processes
                index = on_all_or_none(processes, partial(refuse_silent_errors, loss))
            if any_process(processes, index is not None):
                break
        else:
            return _UNCHECKED
        # the first batch with a loss; with a weight also where it repeats another process's
        batch = replace(specimen.batches[index or 0], weight=1)
        single = replace(specimen, batches=(batch,))
        try:
            return self._compare_copies(single)
        except IndependentLossError:
            # of the parameters themselves it is one, or silent errors would have been told
            return self._compare_in_place(single)

    def _compare_copies(self, single: FrozenBatches) -> SelfCheck:
        """In float64 if the step can, on copies, of which a step may do anything with gradients."""
        try:
            return self._compare(single, torch.float64)
        except _OURS:
            raise
        except Exception as error:
            # constants of the module in float32, or a step that insists on it
            text = (
                f"Self-check: not possible in float64 ({type(error).__name__}: {error}); only the "
                "symmetry of the products was checked, in float32."
            )
            check = self._compare(single, torch.float32)
            note = Note("self-check-in-float32", text)
            return replace(check, notes=(note, *check.notes))

    def _compare_in_place(self, single: FrozenBatches) -> SelfCheck:
        """On the parameters themselves, where the step does not compute with copies of them."""
        text = (
            "Self-check: the step does not compute with copies of the module's parameters, which "
            "something outside of the module holds too, as pyro's store does; products were "
            "checked on the parameters themselves, without float64 only for their symmetry."
        )
        check = self._compare(single, self._dtype, copies=False)
        return replace(check, notes=(Note("self-check-in-place", text), *check.notes))

    def _compare(
        self, single: FrozenBatches, dtype: torch.dtype, *, copies: bool = True
    ) -> SelfCheck:
        generator = torch.Generator().manual_seed(self._setup.seed)
        with self._open(single, dtype, copies=copies) as loss:
            return compare_products(loss, generator=generator)


def _note_on_stopped_gradients(check: SelfCheck) -> tuple[Note, ...]:
    if check.verdict != "surrogate":
        return ()
    text = (
        "Gradients of this loss are not those of its value: if they are stopped on purpose "
        "(detach, straight-through, a target network), differences of them measure something else "
        "than the Hessian with those parts held constant, which `products='exact'` gives."
    )
    return (Note("stopped-gradients", text),)

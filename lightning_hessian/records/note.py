"""What a report has to say beside its numbers."""

from __future__ import annotations

INFORMING = frozenset(
    {
        "alignment-not-measured",
        "all-products-exact",
        "batch-sharpness-lines-not-known",
        "batch-sharpness-not-measured",
        "batch-sharpness-without-clipping",
        "batch-sharpness-without-error",
        "block-not-trained",
        "blocks-not-measured",
        "complex-parameters",
        "derivatives-not-measured",
        "derivatives-without-error",
        "differences-in-float32",
        "edge-not-known",
        "edge-without-clipping",
        "eigenvalues-not-found",
        "few-vectors",
        "fewer-eigenvalues",
        "graphs-not-kept",
        "held-out-not-measured",
        "hessian-spread-not-measured",
        "larger-sample",
        "learning-rate-of-zero",
        "loss-is-sum",
        "memory-limit",
        "narrower-blocks",
        "neighbourhood-not-measured",
        "no-derivatives",
        "no-larger-sample",
        "no-nominal-energy",
        "no-two-parts",
        "noise-fixed",
        "not-compared-with-training",
        "point-of-these-samples",
        "products-by-differences",
        "sample-does-not-grow",
        "sampling-errors-uncertain",
        "small-batch-left-out",
        "surface-left-out",
        "trace-not-measured",
        "trace-not-reached",
        "weighted-mean",
    }
)
"""Codes of notes on how numbers were made, on wide error bars and on numbers that are not there."""


class Note(str):
    """A sentence of a report, with a code to ask for it by.

    It is its text, so that it prints and compares as such.

    A note qualifies where a reader of a number and its error bar alone would be misled: the error
    is not all of it, or the number is not quite what its name says. Any code does that is not one
    of :data:`INFORMING`.

    Args:
        code: Words joined by hyphens, the same wherever the same thing is said.
        text: The sentence.

    Attributes:
        code: As given.

    Example:
        >>> note = Note("trace-not-reached", "The trace did not reach its tolerance.")
        >>> note.code, str(note)
        ('trace-not-reached', 'The trace did not reach its tolerance.')
        >>> note.qualifies, Note("on-a-kink", "The weights stand on a kink.").qualifies
        (False, True)
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Note:
        """Take both."""
        note = super().__new__(cls, text)
        note.code = code
        return note

    @property
    def qualifies(self) -> bool:
        """Whether a number of the report is not to be read without it."""
        return self.code not in INFORMING

    @property
    def name(self) -> str:
        """The code as words."""
        return self.code.replace("-", " ")

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """What a copy, or another process, makes it of."""
        return self.code, str(self)

"""What a report has to say beside its numbers."""

from __future__ import annotations


class Note(str):
    """A sentence of a report, with a code to ask for it by.

    It is its text, so that it prints and compares as such.

    Args:
        code: Words joined by hyphens, the same wherever the same thing is said.
        text: The sentence.

    Attributes:
        code: As given.

    Example:
        >>> note = Note("trace-not-reached", "The trace did not reach its tolerance.")
        >>> note.code, str(note)
        ('trace-not-reached', 'The trace did not reach its tolerance.')
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Note:
        """Take both."""
        note = super().__new__(cls, text)
        note.code = code
        return note

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """What a copy, or another process, makes it of."""
        return self.code, str(self)

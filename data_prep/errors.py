"""The exceptions of data preparation."""

from pathlib import Path


class DataError(ValueError):
    """Data is not what it should be: one line says where, what was expected and found, and what to do."""

    def __init__(self, where: Path | str, expected: str, found: str, advice: str) -> None:
        """The four parts of the message; `where` is a file, a folder or a parameter."""
        super().__init__(str(where), *(" ".join(part.split()) for part in (expected, found, advice)))

    def __str__(self) -> str:
        """The message, in one line."""
        where, expected, found, advice = self.args
        where = where if where.isprintable() else ascii(where)
        return f"{where}: expected {expected}, found {found}; {advice}"

    def at(self, where: Path | str) -> "DataError":
        """The same error with the file that it concerns."""
        return type(self)(where, *self.args[1:])


class NoBackground(DataError):
    """The mask of a target covers the whole image: nothing is left to fill it with."""

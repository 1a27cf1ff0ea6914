"""The finished passes of a run that was cut, each in a file, under a key of all that they depend on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from data_prep.files import write_atomic

Result = TypeVar("Result")


class FinishedPasses:
    """The results of finished passes (tensors, numbers, strings and containers of them) in a folder."""

    def __init__(self, folder: Path | None, key: str, device: torch.device) -> None:
        """Results that were kept under another key are computed again; without a folder none is kept."""
        self._folder, self._key, self._device = folder, key, device

    def get(self, name: str, compute: Callable[[], Result]) -> Result:
        """The result of the pass of this name, computed and kept if it is not here."""
        if self._folder is None:
            return compute()
        path = self._folder / f"{name}.pt"
        if path.is_file():
            kept = torch.load(path, map_location=self._device, weights_only=True)
            if kept["key"] == self._key:
                return kept["value"]
        value = compute()
        content = io.BytesIO()
        torch.save({"key": self._key, "value": value}, content)
        write_atomic(path, content.getvalue())
        return value

    def forget(self) -> None:
        """Remove the files, once the results of the run are written."""
        for path in self._folder.glob("*.pt") if self._folder else []:
            path.unlink()


def key_of(*facts: str | bytes) -> str:
    """A checksum of all that a run depends on."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(hashlib.sha256(fact.encode() if isinstance(fact, str) else fact).digest())
    return digest.hexdigest()

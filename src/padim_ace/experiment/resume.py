"""The finished passes of a run that was cut, each in a file, under a key of all that they depend on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from data_prep.files import write_atomic

Result = TypeVar("Result")


@dataclass
class FinishedPasses:
    """The results of finished passes (tensors, numbers, strings and containers of them) in a folder.

    Results that were kept under another key are computed again; without a folder none is kept.
    """

    folder: Path | None
    key: str
    device: torch.device

    def get(self, name: str, compute: Callable[[], Result]) -> Result:
        """The result of the pass of this name, computed and kept if it is not here."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.pt"
        if path.is_file():
            kept = torch.load(path, map_location=self.device, weights_only=True)
            if kept["key"] == self.key:
                return kept["value"]
        value = compute()
        content = io.BytesIO()
        torch.save({"key": self.key, "value": value}, content)
        write_atomic(path, content.getvalue())
        return value


def key_of(*facts: str | bytes) -> str:
    """A checksum of all that a run depends on."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(hashlib.sha256(fact.encode() if isinstance(fact, str) else fact).digest())
    return digest.hexdigest()

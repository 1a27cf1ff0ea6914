"""Results of a long computation, kept in a file until they are no longer needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, key: str, value: Any) -> None:
    """Keep ``value`` (tensors, numbers, strings and containers of them), replacing what was there.

    ``key`` says what it was computed from. A kill leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save({"key": key, "value": value}, temporary)
    os.replace(temporary, path)


def load(path: Path, key: str, device: torch.device) -> Any:
    """What was kept under this ``key``, or None."""
    if not path.is_file():
        return None
    kept = torch.load(path, map_location=device, weights_only=True)
    return kept["value"] if kept["key"] == key else None

"""Embeddings that a later pass wants again, kept on disk so that no image needs the backbone twice.

A normal image that trains one seed and tests another is wanted in two passes, and with ten seeds nearly every
one is. On a CPU its embedding (1.8 MB from ResNet-18 at 256 pixels) is read ten times as fast as computed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int

from padim_ace.detect.pyramid import Embedding

LIMIT = 10 * 2**30
"""Bytes of the file at most; it also takes no more than a quarter of what is free on the disk."""


class EmbeddingStore:
    """Embeddings by the image's row in the manifest, in a nameless file that goes when the process does.

    They come back bit for bit. What no longer fits, or what a full disk refuses, is left out: whoever asks
    (``row in store``) computes it again.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        """An empty store, in ``folder`` or else where temporary files go."""
        where = folder or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=where, buffering=0)  # noqa: SIM115 (open between passes)
        self._limit = min(LIMIT if limit is None else limit, shutil.disk_usage(where).free // 4)
        self._number: dict[int, int] = {}
        self._shapes: list[tuple[int, int]] = []
        """Places and features of the stages."""
        self._full = False

    def __contains__(self, row: object) -> bool:
        """Whether the image's embedding is here."""
        return row in self._number

    def add(
        self, rows: Int[np.ndarray, " image"], embedding: Embedding, wanted: Bool[np.ndarray, " image"]
    ) -> None:
        """Keep the embeddings of those images of a batch that are ``wanted``, as far as they fit."""
        if self._full or not wanted.any():
            return
        self._shapes = [(stage.shape[0], stage.shape[2]) for stage in embedding]
        fits = self._limit // self._image_bytes - len(self._number)
        self._full = fits <= wanted.sum()
        chosen = np.flatnonzero(wanted)[: max(fits, 0)]
        index = torch.from_numpy(chosen)
        block = torch.cat([s.transpose(0, 1).index_select(0, index).flatten(1) for s in embedding], 1)
        try:
            self._file.seek(len(self._number) * self._image_bytes)
            written = self._file.write(block.numpy().data) if len(chosen) else 0
        except OSError:
            written = 0
        complete = chosen[: written // self._image_bytes]
        self._full |= len(complete) < len(chosen)
        for row in rows[complete].tolist():
            self._number[row] = len(self._number)

    def read(self, rows: Int[np.ndarray, " image"]) -> Embedding:
        """The embeddings of images that are all here.

        Raises:
            KeyError: if one is not.
        """
        block = np.empty((len(rows), self._image_bytes // 4), np.float32)
        for number, row in enumerate(rows.tolist()):
            self._file.seek(self._number[row] * self._image_bytes)
            self._file.readinto(block[number].data)
        parts = torch.from_numpy(block).split([places * features for places, features in self._shapes], 1)
        return [
            part.unflatten(1, shape).transpose(0, 1) for part, shape in zip(parts, self._shapes, strict=True)
        ]

    @property
    def _image_bytes(self) -> int:
        return 4 * sum(places * features for places, features in self._shapes)

"""Embeddings of a dataset's images: computed, or kept on disk so that no image needs the backbone twice.

A normal image that trains one seed and tests another is wanted in two passes, and with ten seeds nearly every
one is. On a CPU its embedding (1.8 MB from ResNet-18 at 256 pixels) is read ten times as fast as computed.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from padim_ace.detect.embedding import Embedder
from padim_ace.detect.pyramid import Embedding, side_by_side
from padim_ace.experiment.dataset import Batch, PreparedDataset, batches

LIMIT = 10 * 2**30  #: Bytes of the file at most, beside a quarter of what is free on the disk
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Have this process keep what tensors free for those that follow.

    glibc gives blocks of over 32 MB back to the system at once; to be given them again, page by page, takes
    longer than most sums over them. Other C libraries are left as they are.
    """
    with suppress(OSError, AttributeError, TypeError):
        for parameter, value in ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_MAX, 0)):
            ctypes.CDLL(None).mallopt(parameter, value)


class EmbeddingStore:
    """Embeddings by the image's row in the manifest, in a nameless file that goes when the process does.

    They come back bit for bit. What does not fit, or what a full disk refuses, is left out: whoever asks
    (``row in store``) computes it again.
    """

    def __init__(self, images: int, folder: Path | None = None) -> None:
        """An empty store for so many images at most, in ``folder`` or else where temporary files go."""
        self._images, self._folder = images, folder or Path(tempfile.gettempdir())
        self._number: dict[int, int] = {}
        self._shapes: list[tuple[int, int]] = []  #: Places and features of the stages
        self._memory: np.ndarray | None = None

    def __contains__(self, row: object) -> bool:
        """Whether the image's embedding is here."""
        return row in self._number

    def _open(self, embedding: Embedding) -> np.ndarray:
        """The memory-mapped file, ``[image, number]``, its place on the disk reserved."""
        self._shapes = [(stage.shape[0], stage.shape[2]) for stage in embedding]
        width = sum(places * features for places, features in self._shapes)
        limit = min(LIMIT, shutil.disk_usage(self._folder).free // 4)
        images = min(self._images, limit // (4 * width))
        if images:
            with tempfile.TemporaryFile(dir=self._folder) as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, 4 * images * width)  # or a full disk would kill the run
                return np.memmap(file, np.float32, shape=(images, width))
        return np.empty((0, width), np.float32)

    def add(
        self, rows: Int[np.ndarray, " image"], embedding: Embedding, wanted: Bool[np.ndarray, " image"]
    ) -> None:
        """Keep the embeddings of those images of a batch that are ``wanted``, as far as they fit."""
        if self._memory is None:
            self._memory = self._open(embedding)
        first = len(self._number)
        chosen = np.flatnonzero(wanted)[: len(self._memory) - first]
        if not len(chosen):
            return
        index = torch.from_numpy(chosen)
        block = torch.cat([s.transpose(0, 1).index_select(0, index).flatten(1) for s in embedding], 1)
        self._memory[first : first + len(chosen)] = block.numpy()
        self._number.update(zip(rows[chosen].tolist(), range(first, first + len(chosen)), strict=True))

    def read(self, rows: Int[np.ndarray, " image"]) -> Embedding:
        """The embeddings of images that are all here; a KeyError if one is not."""
        numbers = [self._number[row] for row in rows.tolist()]
        assert self._memory is not None
        block = torch.from_numpy(self._memory[numbers])
        parts = zip(block.split([p * f for p, f in self._shapes], 1), self._shapes, strict=True)
        return [part.unflatten(1, shape).transpose(0, 1) for part, shape in parts]


@dataclass
class ImageEmbeddings:
    """A dataset seen through a backbone, on the embedder's device."""

    dataset: PreparedDataset
    embedder: Embedder
    batch_size: int
    precision: str  #: ``float32`` or ``bfloat16``
    workers: int
    store: EmbeddingStore = field(default_factory=lambda: EmbeddingStore(0))
    """What is read back and not computed; its user fills it."""

    @property
    def device(self) -> torch.device:
        """Where embeddings are."""
        return self.embedder.raster.device

    def compute(self, images: Float[Tensor, "image 1 row column"], normalise: bool = True) -> Embedding:
        """The embeddings of decoded images, which are normalised for the backbone first or not."""
        return self.embedder.embed(images.to(self.device, non_blocking=True), normalise, self.precision)

    def batches(
        self, index: np.ndarray, what: str, levels: Sequence[str] = ()
    ) -> Iterator[tuple[Batch, Embedding]]:
        """Batches of the images of ``index`` and their embeddings, with a progress bar that says ``what``."""
        decoded = batches(
            self.dataset,
            index,
            self.embedder.image_size,
            self.batch_size,
            what=what,
            levels=levels,
            workers=self.workers,
            known=self.store,
        )
        for batch in decoded:
            kept = batch.index[: len(batch.index) - len(batch.images)]
            parts = [self.store.read(kept)] if len(kept) else []
            if len(batch.images):
                parts.append(self.compute(batch.images))
            yield batch, parts[0] if len(parts) == 1 else side_by_side(parts)

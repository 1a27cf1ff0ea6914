"""Embeddings of a dataset's images, batch by batch: computed, or read back where they were kept."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from padim_ace.detect.embedding import Embedder
from padim_ace.detect.pyramid import Embedding, side_by_side
from padim_ace.experiment.dataset import Batch, PreparedDataset, batches
from padim_ace.experiment.embedding_store import EmbeddingStore


class ImageEmbeddings:
    """A dataset seen through a backbone."""

    def __init__(
        self, dataset: PreparedDataset, embedder: Embedder, *, batch_size: int, precision: str, workers: int
    ) -> None:
        """Embed on the embedder's device; ``precision`` is ``float32`` or ``bfloat16``."""
        self.dataset = dataset
        self.embedder = embedder
        self.device = embedder.raster.device
        self.batch_size = batch_size
        self.precision = precision
        self.workers = workers
        self._store: EmbeddingStore | None = None

    def open_store(self, folder: Path | None) -> None:
        """From now on :meth:`keep` keeps, in ``folder``, if the network runs on a CPU: a GPU is faster than a
        disk."""
        if self.device.type == "cpu":
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._store = EmbeddingStore(len(self.dataset), folder)

    def close_store(self) -> None:
        """Forget what was kept."""
        self._store = None

    def keep(self, batch: Batch, embedding: Embedding, wanted: Bool[np.ndarray, " image"]) -> None:
        """Keep the embeddings of those images of a batch that are ``wanted`` again."""
        if self._store is not None:
            self._store.add(batch.index, embedding, wanted)

    def compute(self, images: Float[Tensor, "image 1 row column"], normalise: bool = True) -> Embedding:
        """The embeddings of decoded images, which are normalised for the backbone first or not."""
        return self.embedder.embed(images.to(self.device, non_blocking=True), normalise, self.precision)

    def batches(self, index: np.ndarray, what: str, masks: bool = False) -> Iterator[tuple[Batch, Embedding]]:
        """Batches of the images of ``index`` and their embeddings, with a progress bar that says ``what``."""
        known: Container[int] = self._store or ()
        size = self.embedder.image_size
        with tqdm(total=len(index), desc=what, unit="image", mininterval=1) as bar:
            for batch in batches(
                self.dataset, index, size, self.batch_size, masks=masks, workers=self.workers, known=known
            ):
                kept = batch.index[: len(batch.index) - len(batch.images)]
                parts = [self._store.read(kept)] if self._store is not None and len(kept) else []
                if len(batch.images):
                    parts.append(self.compute(batch.images))
                yield batch, parts[0] if len(parts) == 1 else side_by_side(parts)
                bar.update(len(batch.index))

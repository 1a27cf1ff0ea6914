"""Embeddings of a dataset's images, batch by batch: computed, or read back where they were kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

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
        self.store = EmbeddingStore(0)
        """What is read back and not computed; its user fills it."""

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

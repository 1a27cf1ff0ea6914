"""How ``PadimAce`` is fitted by Lightning: one pass over the normal images, then the signature images."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.models.components import MemoryBankMixin
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from padim_ace.anomalib.signature_images import SignatureFolder, SignatureImages, choose, refuse_constant
from padim_ace.detect.model import SignatureBatch
from padim_ace.detect.registry import SIGNATURES

SIGNATURE_BATCH = 16  #: Signature images embedded at a time


class OnePassFit(MemoryBankMixin):
    """The hooks of a fit, and the guard that keeps the signature's images apart from others."""

    model: Any
    trainer: Any
    pre_processor: Any
    placeholder: nn.Parameter
    signature_images: Any
    _signature = SignatureImages()  #: Which images made the signature of the last fit

    def on_fit_start(self) -> None:
        """Refuse a trainer that is at its end: it would train nothing and not say so."""
        if self.trainer.fit_loop.done:
            raise ValueError("Engine: expected one that has not fitted, found one that has; make a new one")

    def on_train_start(self) -> None:
        """Forget an earlier fit; refuse all that would make the long pass a waste of time."""
        batches = self.trainer.num_training_batches
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if 0 < done < batches:
            raise ValueError(
                f"ckpt_path: expected a checkpoint from the end of an epoch, found one from after {done} "
                "batches, whose images it does not hold; fit without ckpt_path"
            )
        if self.trainer.val_check_batch < batches:
            raise ValueError(
                "val_check_interval: expected validation after the whole training pass, found it after "
                f"{self.trainer.val_check_batch} of {batches} batches; set it to 1.0"
            )
        self.model.begin()
        self._is_fitted = torch.tensor([False], device=self.device)
        loader, validation = self.trainer.train_dataloader, self.trainer.val_dataloaders
        self._to_see = sys.maxsize
        if isinstance(sampler := loader.sampler, DistributedSampler):
            # it repeats some images so that all ranks have equally many; those are at the end
            self._to_see = len(range(sampler.rank, len(loader.dataset), sampler.num_replicas))
        if not self.model.detector.has_signature:
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(self.signature_images, SignatureFolder):  # they go the way of the validation images
            val_data = getattr(datamodule, "val_data", None)
            self.signature_images.augmentations = getattr(val_data, "augmentations", None)
        self._signature = choose(self.signature_images, _dataset(loader), _dataset(validation))
        self._signature.warn_of_validated(_dataset(validation))
        self._signature.refuse_tested(getattr(datamodule, "test_data", None))
        next(self._signature_batches(self._signature.dataset))  # if they can't be used, say so now

    def training_step(self, batch: Any, *args, **kwargs) -> Tensor:
        """Add a batch's normal images to the background, and refuse constant ones."""
        keep = torch.arange(len(batch.image), device=batch.image.device) < self._to_see
        self._to_see -= len(batch.image)
        if batch.gt_label is not None:
            keep = keep & ~batch.gt_label.bool()
        if keep.any():
            refuse_constant(batch.image, batch.image_path)
            self.model.update(batch.image[keep])
        return self.placeholder * 0

    def fit(self) -> None:
        """Background and signature, at the end of the training pass."""
        dataset = self._signature.dataset
        if dataset is None and (self.model.detector.has_signature or not self.model.moments.count):
            raise ValueError("PadimAce: expected a fitted model, found none; call fit or load a checkpoint")
        with torch.inference_mode(False):  # validation would leave buffers that nothing may change
            self.model.fit(() if dataset is None else self._signature_batches(dataset))
        self._signature = replace(self._signature, dataset=None)

    def _signature_batches(self, dataset: Any) -> Iterator[SignatureBatch]:
        """Anomalous images as the training images are: pre-processed, and cut into tiles for an ensemble.

        Each image's class is the name of its folder.
        """
        collate = getattr(getattr(self.trainer, "datamodule", None), "external_collate_fn", None)
        transform = getattr(self.pre_processor, "transform", None)
        masked = SIGNATURES[self.model.detector.signature].supervision == "masks"
        for start in range(0, len(dataset), SIGNATURE_BATCH):
            items = [dataset[i] for i in range(start, min(start + SIGNATURE_BATCH, len(dataset)))]
            for item in items:
                if transform is not None:
                    item.image, item.gt_mask = transform(item.image, item.gt_mask)
                if item.gt_mask is None and masked:
                    raise ValueError(f"{item.image_path}: expected a mask, found none; set signature_masks")
                if item.gt_mask is None:
                    item.gt_mask = torch.zeros(item.image.shape[-2:])  # which a tiler asks for
            batch: Any = (collate or ImageBatch.collate)(items)
            refuse_constant(batch.image, batch.image_path)
            names = [Path(item.image_path or "").parent.name for item in items]
            yield batch.image.to(self.device), batch.gt_mask > 0 if masked else None, names

    # validation and test

    def on_validation_start(self) -> None:
        """Fit after the training pass; Lightning's sanity check comes before it."""
        if not self.trainer.sanity_checking:
            super().on_validation_start()

    def validation_step(self, batch: Any, *args, **kwargs) -> Any:
        """Score a batch, and keep the images that made the signature from setting the threshold."""
        if self.trainer.sanity_checking:
            return None
        batch = self.predict_step(batch)
        left = [not self._signature.took(path) for path in batch.image_path or [None] * len(batch)]
        if all(left):
            return batch
        others = [item for item, is_left in zip(batch.items, left, strict=True) if is_left]
        return ImageBatch.collate(others) if others else None

    def predict_step(self, batch: Any, *args, **kwargs) -> Any:
        """Score a batch; where targets have classes, each image's stands in its ``explanation``."""
        scored = self.model(batch.image)
        batch.update(pred_score=scored.pred_score, anomaly_map=scored.anomaly_map)
        if scored.pred_class is not None:
            batch.explanation = [self.model.classes[number] for number in scored.pred_class]
        return batch

    def on_test_start(self) -> None:
        """Refuse to test on images that made the signature."""
        self._signature.refuse_tested(_dataset(self.trainer.test_dataloaders))

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember which images made the signature."""
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        checkpoint["signature_images"] = [sorted(self._signature.paths), self._signature.asked]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember them again."""
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        paths, asked = checkpoint.get("signature_images", ([], True))
        self._signature = SignatureImages(frozenset(paths), asked)


def _dataset(loaders: Any) -> Any:
    """The dataset of a loader, or of the first of several."""
    return getattr(loaders[0] if isinstance(loaders, list) and loaders else loaders, "dataset", None)

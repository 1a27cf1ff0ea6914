"""Where ``PadimAce`` finds anomalous images for its target signature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import ImageItem
from anomalib.data.datasets.base.image import AnomalibDataset
from anomalib.data.utils import read_image, read_mask
from anomalib.data.utils.image import is_image_file
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, Subset


class SignatureFolder(Dataset):
    """The images of a folder of anomalous images, perhaps with masks of the same names."""

    def __init__(self, images: str | Path, masks: str | Path | None = None) -> None:
        """List the files.

        Raises:
            ValueError: if there is no image, or one has no mask.
        """
        self.paths = _images_in(images)
        self.masks: list[Path] | None = None
        if masks is not None:
            by_name = {path.stem: path for path in _images_in(masks)}
            for path in self.paths:
                if path.stem not in by_name:
                    raise ValueError(f"{path}: expected a mask {path.stem}.* in {masks}, found none; add it")
            self.masks = [by_name[path.stem] for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> ImageItem:
        mask = None if self.masks is None else read_mask(self.masks[index], as_tensor=True)
        image = read_image(self.paths[index], as_tensor=True)
        return ImageItem(image=image, gt_mask=mask, image_path=str(self.paths[index]))


def _images_in(folder: str | Path) -> list[Path]:
    paths = sorted(path for path in Path(folder).rglob("*") if is_image_file(path))
    if not paths:
        raise ValueError(f"{folder}: expected a folder of images, found none; check the path")
    return paths


def anomalous(dataset: Any) -> Any:
    """The anomalous images of a dataset of anomalib; all images of another."""
    if not isinstance(dataset, AnomalibDataset):
        return dataset
    return Subset(dataset, np.flatnonzero(dataset.samples["label_index"] == 1).tolist())


def image_paths(dataset: Any) -> set[Path]:
    """The files of a dataset's images, as far as it says."""
    if isinstance(dataset, SignatureFolder):
        return {path.resolve() for path in dataset.paths}
    indices: Any = slice(None)
    if isinstance(dataset, Subset):
        dataset, indices = dataset.dataset, dataset.indices
    if not isinstance(dataset, AnomalibDataset):
        return set()
    return {Path(path).resolve() for path in dataset.samples["image_path"].iloc[indices]}


def refuse_constant(images: Float[Tensor, "batch channel row column"], paths: Sequence | None) -> None:
    """Stop at an image that shows nothing, such as a tile without data: it would bend the statistics.

    Raises:
        ValueError: if all pixels of an image are alike.
    """
    pixels = images.flatten(2)
    constant = (pixels.amax(2) - pixels.amin(2) < 1e-6).all(1)  # a resize rounds
    if constant.any():
        first = int(constant.nonzero()[0])
        raise ValueError(
            f"{paths[first] if paths else 'an image'}: expected pixels that differ, "
            f"found {float(pixels[first, 0, 0]):.3g} everywhere; remove it"
        )

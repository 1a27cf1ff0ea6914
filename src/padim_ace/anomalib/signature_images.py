"""Where ``PadimAce`` finds anomalous images for its target signature."""

import logging
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib.data import ImageItem
from anomalib.data.datasets.base.image import AnomalibDataset
from anomalib.data.utils import read_image, read_mask
from anomalib.data.utils.image import is_image_file
from anomalib.data.utils.synthetic import ROOT as SYNTHETIC
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

logger = logging.getLogger(__name__)


class SignatureFolder(Dataset):
    """The images of a folder of anomalous images, perhaps with masks.

    The mask of ``a/000.png`` is ``a/000.*`` or, as in MVTec AD, ``a/000_mask.*`` of the folder of masks.
    """

    augmentations: Any = None  #: What the validation images are put through before they are pre-processed

    def __init__(self, images: str | Path, masks: str | Path | None = None) -> None:
        """List the files; a ValueError if there is no image, or one does not have exactly one mask."""
        self.paths = _images_in(images)
        self.masks = None if masks is None else _paired(self.paths, Path(images), Path(masks))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> ImageItem:
        mask = None if self.masks is None else read_mask(self.masks[index], as_tensor=True)
        image = read_image(self.paths[index], as_tensor=True)
        if self.augmentations is not None:
            image, mask = self.augmentations(image, mask)
        return ImageItem(image=image, gt_mask=mask, image_path=str(self.paths[index]))


def _images_in(folder: str | Path) -> list[Path]:
    paths = sorted(path for path in Path(folder).rglob("*") if is_image_file(path))
    if not paths:
        raise ValueError(f"{folder}: expected a folder of images, found none; check the path")
    return paths


def _paired(images: list[Path], root: Path, masks: Path) -> list[Path]:
    """The mask of each image, by its path in the folder."""
    by_stem = defaultdict(list)
    for mask in _images_in(masks):
        stem = mask.relative_to(masks).with_suffix("")
        by_stem[stem.with_name(stem.name.removesuffix("_mask"))].append(mask)
    stems = [image.relative_to(root).with_suffix("") for image in images]
    for stem in stems:
        found, sharing = by_stem[stem], stems.count(stem)
        if len(found) != 1 or sharing > 1:
            names = ", ".join(str(mask.relative_to(masks)) for mask in found) or "none"
            one = f"one mask {stem}.* or {stem}_mask.* for one image"
            raise ValueError(f"{masks}: expected {one}, found {names} for {sharing}; rename or remove some")
    return [by_stem[stem][0] for stem in stems]


def listed(dataset: Any) -> list[tuple[str | None, bool | None]]:
    """The file of each image of a dataset and whether it is anomalous, as far as they are known.

    It looks through any nesting of torch's datasets; of those that are not anomalib's it reads the items.
    """
    if isinstance(dataset, Subset):
        whole = listed(dataset.dataset)
        return [whole[index] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [entry for part in dataset.datasets for entry in listed(part)]
    if isinstance(dataset, AnomalibDataset):
        columns = dataset.samples["image_path"], dataset.samples["label_index"]
    else:
        items = [dataset[index] for index in range(len(dataset))]
        columns = [item.image_path for item in items], [item.gt_label for item in items]
    return [
        (_resolved(path), None if label is None or label < 0 else bool(label))
        for path, label in zip(*columns, strict=True)
    ]


def _resolved(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


@dataclass(frozen=True)
class SignatureImages:
    """The images that make a signature."""

    paths: frozenset[str] = frozenset()
    asked: bool = True  #: Whether the user named them; else they were found in the training or validation set
    dataset: Any = None  #: The images, until they have made it

    def took(self, path: str | None) -> bool:
        """Whether this image was taken without being asked to: it may not set the threshold as well."""
        return not self.asked and _resolved(path) in self.paths

    def warn_of_validated(self, dataset: Any) -> None:
        """Warn if some, which the user named, set the threshold as well."""
        if self.asked and (shared := self._shared(dataset)):
            message = f"signature images: expected none of the validation set, found {shared}"
            warnings.warn(f"{message}; the threshold will be too high", stacklevel=2)

    def refuse_tested(self, dataset: Any) -> None:
        """Raise a ValueError, or warn where the user named them, if some are of the test set."""
        if shared := self._shared(dataset):
            message = f"signature images: expected none of the test set, found {shared}"
            if not self.asked:
                raise ValueError(f"{message}; set signature_images to a folder of others")
            warnings.warn(f"{message}; test metrics will be too good", stacklevel=2)

    def _shared(self, dataset: Any) -> int:
        others = listed(dataset) if self.paths and dataset is not None else []
        return len(self.paths & {path for path, _ in others})


def choose(source: Any, training: Any, validation: Any) -> SignatureImages:
    """The anomalous images of ``source`` or, if it is None, of the training or else the validation set.

    Of the validation set every second one is taken: the others are left to set the threshold. If there are
    none, or only synthetic ones, it is a ValueError.
    """
    sets = {"the training set": training, "the validation set": validation}
    if source is not None:
        sets = {"signature_images": source}
    synthetic = 0
    for origin, dataset in sets.items():
        # what a user names is anomalous unless it says that it is not
        entries = [
            (index, path)
            for index, (path, label) in enumerate([] if dataset is None else listed(dataset))
            if label or (label is None and source is not None)
        ]
        real = [entry for entry in entries if not Path(entry[1] or "").is_relative_to(SYNTHETIC.resolve())]
        synthetic += len(entries) - len(real)
        if not real:
            continue
        used = real[::2] if origin == "the validation set" else real
        left = f"; the other {len(real) - len(used)} set the threshold" if used != real else ""
        logger.info("Signature from %d of %d anomalous images of %s%s.", len(used), len(real), origin, left)
        paths = frozenset(path for _, path in used if path is not None)
        return SignatureImages(paths, source is not None, Subset(dataset, [index for index, _ in used]))
    where, found = " or ".join(sets), f"{synthetic} synthetic ones" if synthetic else "none"
    raise ValueError(
        f"signature images: expected real anomalous images in {where}, found {found}; set signature_images "
        'to a folder of some, or take preset="unsupervised", which needs none'
    )


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

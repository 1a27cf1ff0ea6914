"""Target-erased normals, for every dataset whose images come with masks."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from data_prep.errors import DataError, NoBackground
from data_prep.prepared import Item, Record
from data_prep.target_removal import KMeansRemoval, image_rng, remove_by_kmeans, remove_by_mask

REMOVALS = ("mask", "kmeans", "none")


@dataclass(frozen=True)
class RemovalParameters(KMeansRemoval):
    """How normals are made from images with targets.

    `mask` fills the dilated mask, `kmeans` finds target and shadow itself as on MSTAR, `none` makes none.
    """

    removal: str = "mask"
    dilation: int = 35  # side of the square that grows the mask, px; used by `mask`

    def __post_init__(self) -> None:
        """Raise `DataError` for an unknown removal."""
        if self.removal not in REMOVALS:
            raise DataError("removal", f"one of {', '.join(REMOVALS)}", repr(self.removal), "change it")


def anomalous_and_erased(
    item: Item,
    image: UInt8[np.ndarray, "row column"],
    mask: Bool[np.ndarray, "row column"] | None,
    parameters: RemovalParameters,
    seed: int,
) -> list[Record]:
    """The image as it is, and (unless `removal` is `none`) its copy without targets.

    The mask kept beside the image is the one given; where none is, the mask of the k-means removal. Where
    k-means takes the whole of an image with a known mask for its target, no copy is made of it.
    """
    rng = image_rng(seed, item.name)
    erased, removed, failed = None, None, False
    try:
        if parameters.removal == "kmeans":
            erased, filled = remove_by_kmeans(image, rng, parameters)
            removed = None if mask is None else float(filled[mask].mean())
            mask = filled if mask is None else mask
        elif parameters.removal == "mask":
            if mask is None:
                raise DataError("", "a mask to remove targets by", "none", "add it or set removal=kmeans")
            erased = remove_by_mask(image, mask, rng, parameters.dilation)
    except DataError as error:
        failed = isinstance(error, NoBackground) and parameters.removal == "kmeans" and mask is not None
        if not failed:
            raise error.at(item.files[0]) from None
    record = Record(
        item.name, "anomalous", item.split, item.category, item.source, image, mask, failed=failed
    )
    if erased is None:
        return [record]
    return [record, replace(record, label="normal", image=erased, mask=None, removed=removed)]

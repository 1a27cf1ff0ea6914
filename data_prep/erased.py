"""Target-erased normals, for every dataset whose images come with masks."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from data_prep.dataset import Item, Record
from data_prep.errors import DataError, NoBackground
from data_prep.images import Grey, Mask
from data_prep.target_removal import KMeansRemoval, image_rng, remove_by_kmeans, remove_by_mask

NO_NORMAL = "images that k-means took for target from edge to edge, without a normal copy"
NO_DATA = "images with pixels that hold no data, left black"


class RemovalParameters(KMeansRemoval):
    """How normals are made from images with targets."""

    removal: Literal["mask", "kmeans", "none"] = Field(
        default="mask", description="what makes normals of anomalous images: masks, dilated, or k-means"
    )
    dilation: int = Field(default=35, ge=1, le=1001, description="side of the square that grows a mask, px")


def anomalous_and_erased(
    item: Item,
    image: Grey,
    mask: Mask | None,
    parameters: RemovalParameters,
    seed: int,
    valid: Mask | None = None,
    notes: tuple[str, ...] = (),
) -> list[Record]:
    """The image as it is, and (unless `removal` is `none`) its copy without targets.

    The mask kept beside the image is the one given; where none is, the mask of the k-means removal. Where
    k-means takes the whole of an image with a known mask for its target, no copy is made of it.
    """
    rng = image_rng(seed, item.name)
    erased, removed = None, None
    try:
        if parameters.removal == "kmeans":
            erased, filled, _ = remove_by_kmeans(image, rng, parameters, valid)
            removed = None if mask is None else float(filled[mask].mean())
            mask = filled if mask is None else mask
        elif parameters.removal == "mask":
            if mask is None:
                raise DataError("", "a mask to remove targets by", "none", "add it or set removal to kmeans")
            erased = remove_by_mask(image, mask, rng, parameters.dilation, valid)
    except DataError as error:
        if not (isinstance(error, NoBackground) and parameters.removal == "kmeans" and mask is not None):
            raise error.at(item.files[0]) from None
        notes += (NO_NORMAL,)
    about = (item.split, item.category, item.source)
    record = Record(item.name, "anomalous", *about, image, mask, valid=valid, notes=notes)
    if erased is None:
        return [record]
    return [record, replace(record, label="normal", image=erased, mask=None, removed=removed)]

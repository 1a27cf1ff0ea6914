"""SSDD (SAR Ship Detection Dataset), the official tree of 2021 with pixel masks (PSeg_SSDD)."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from data_prep.dataset import Dataset, Item, Record, Report
from data_prep.datasets import coco
from data_prep.erased import RemovalParameters, anomalous_and_erased
from data_prep.errors import DataError
from data_prep.images import alike, list_images, passed_over, pixel_key, read_grey8, read_mask

MASKS = "JPEGImages_PSeg_GT_Mask"


class Parameters(RemovalParameters):
    """SSDD's parameters."""

    drop_duplicates: bool = Field(default=False, description="keep one of images that are identical")


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], Report]:
    """The images of both splits, each with its mask file or, where that is absent, its outlines.

    Of several trees, as the archive holds them, the one with masks is taken.
    """
    trees = sorted({p.parent for p in raw.glob("**/voc_style/JPEGImages_train")}, key=_without_masks)
    if not trees:
        raise DATASETS["ssdd"].missing(raw)
    voc = trees[0]
    masks = {p.stem: p for folder in sorted(voc.glob(f"{MASKS}*")) for p in list_images(folder)}
    ships: list[Item] = []
    left_out: Counter[str] = Counter({"other trees of the release": len(trees) - 1} if trees[1:] else {})
    for split in ("train", "test"):
        outlines = None
        images = list_images(voc / f"JPEGImages_{split}")
        left_out += passed_over([voc / f"JPEGImages_{split}"])
        for path in images:
            source = path.relative_to(voc.parent).as_posix()
            if path.stem in masks:
                ships.append(Item(path.stem, source, split, "ship", (path, masks.pop(path.stem))))
                continue
            if outlines is None:
                annotations = voc.parent / "coco_style" / "annotations" / f"{split}.json"
                if not annotations.exists():
                    expected = f"a mask of it in {voc / MASKS} or polygons in {annotations}"
                    raise DataError(path, expected, "neither", "unpack the whole release")
                outlines = coco.read_outlines(annotations, {p.name for p in images})
            drawn = outlines.get(path.name, ())
            if not drawn:
                raise DataError(path, "a mask or polygons of ships", "neither", "remove the image")
            ships.append(Item(path.stem, source, split, "ship", (path,), drawn))
    if not ships:
        raise DATASETS["ssdd"].missing(raw)
    if masks:
        left_out["masks without an image"] = len(masks)
    splits = {item.name: item.split for item in ships}
    groups = alike({item.name: pixel_key(read_grey8(item.files[0])) for item in ships})
    report: Report = {
        "read": voc.relative_to(raw).as_posix(),
        "left_out": left_out,
        "duplicate_groups": groups,
        "duplicate_groups_across_splits": [g for g in groups if len({splits[name] for name in g}) == 2],
    }
    if parameters.drop_duplicates:
        dropped = {name for group in groups for name in sorted(group, key=lambda n: (splits[n], n))[1:]}
        report["dropped"] = sorted(dropped)
        ships = [item for item in ships if item.name not in dropped]
    scenes = {name: group[0] for group in groups for name in group}
    return [replace(item, scene=scenes.get(item.name, "")) for item in ships], report


def _without_masks(voc: Path) -> tuple[bool, bool, Path]:
    """Sorts trees: those with masks first, then those named after the masks (their polygons are no boxes)."""
    return not any(voc.glob(f"{MASKS}*/*")), not voc.parent.name.startswith("PSeg"), voc


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The image with the release's mask, and its copy without ships."""
    image = read_grey8(item.files[0])
    mask, notes = (
        coco.draw(item.extra, image.shape) if item.extra else (read_mask(item.files[1], image.shape), ())
    )
    return anomalous_and_erased(item, image, mask, parameters, seed, notes=notes)


BY_MASKS = Dataset(
    title="SSDD by masks",
    items=items,
    load=load,
    parameters=Parameters,
    folder="SSDD",
    files="Official-SSDD-OPEN.rar",
    site="Google Drive, file id 1glNJUGotrbEyk43twwB9556AdngJsynZ",
    layout="Official-SSDD-OPEN/PSeg_SSDD/voc_style/JPEGImages_{train,test}/",
    licence="none stated in the archive; published for research",
)
DATASETS = {
    "ssdd": BY_MASKS,
    "ssdd_kmeans": replace(BY_MASKS, title="SSDD by k-means", defaults={"removal": "kmeans"}),
}
"""SSDD stands twice: its targets are removed by the release's masks, or by k-means as the paper says."""

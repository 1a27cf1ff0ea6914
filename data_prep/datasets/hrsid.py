"""HRSID (High-Resolution SAR Images Dataset): ships by COCO polygons, ship-free scenes as normals."""

from pathlib import Path

from data_prep.dataset import Dataset, Item, Parameters, Record, Report
from data_prep.datasets import coco
from data_prep.errors import DataError
from data_prep.images import list_images, passed_over, read_grey8


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], Report]:
    """The annotated images of both splits and the pure backgrounds."""
    root = next(
        (p.parent for p in sorted(raw.glob("**/JPEGImages")) if (p.parent / "annotations").is_dir()), None
    )
    if root is None:
        raise DATASETS["hrsid"].missing(raw)
    images = {p.name: p for p in list_images(root / "JPEGImages")}
    scenes: list[Item] = []
    for split in ("train", "test"):
        path = root / "annotations" / f"{split}2017.json"
        for name, outlines in sorted(coco.read_outlines(path, set(images)).items()):
            source = images[name].relative_to(root).as_posix()
            scenes.append(Item(images[name].stem, source, split, "ship", (images[name],), outlines))
    # The release puts its backgrounds in no split; the experiment draws its own among all normals.
    background = next((p for p in sorted(raw.glob("**/pure_background")) if p.is_dir()), None)
    for path in list_images(background) if background else []:
        scenes.append(Item(path.stem, f"pure_background/{path.name}", "train", "background", (path,)))
    if not any(not item.extra for item in scenes) and parameters.tile_size is None:
        advice = f"get the archive ({DATASETS['hrsid'].site}) or set tile_size"
        raise DataError(root, "pure_background/ with ship-free images", "none", advice)
    left_out = passed_over([root / "JPEGImages", *([background] if background else [])])
    unannotated = set(images) - {Path(item.source).name for item in scenes}
    if unannotated:
        left_out["images without annotation"] = len(unannotated)
    return scenes, {"read": root.relative_to(raw).as_posix(), "left_out": left_out}


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The image with the mask of its ships; without any it is a normal."""
    image = read_grey8(item.files[0])
    if not item.extra:
        return [Record(item.name, "normal", item.split, "background", item.source, image)]
    mask, notes = coco.draw(item.extra, image.shape)
    return [Record(item.name, "anomalous", item.split, "ship", item.source, image, mask, notes=notes)]


DATASETS = {
    "hrsid": Dataset(
        title="HRSID",
        items=items,
        load=load,
        folder="HRSID",
        files="HRSID_JPG.zip and the archive of 400 pure backgrounds",
        site="Google Drive, file ids 1BZTU8Gyg20wqHXtBPFzRazn_lEdvhsbE (JPG) and"
        " 1U0Sj1SHoq-2VjXXUKwpXae6rBI3YjyDP (pure backgrounds)",
        layout="HRSID_JPG/{JPEGImages,annotations,pure_background}/",
        licence="none stated in the archives; published for research",
    )
}

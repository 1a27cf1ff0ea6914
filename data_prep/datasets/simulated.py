"""Simulated datasets for the demo profile: raw images, masks and an index, as a release would have them.

::

    <raw>/images/<name>.png, <raw>/masks/<name>.png (of scenes with targets), <raw>/vehicles/<name>.png
    <raw>/index.csv         name,split,class
    <raw>/simulation.json   dataset, seed, parameters

They pass through the same target removal as the real data: `demo_vehicle` by k-means as MSTAR, `demo_sea` by
its masks as SSDD; `demo_harbour` has pure backgrounds of its own as HRSID.
"""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from data_prep.dataset import Dataset, Item, Record, Report
from data_prep.erased import RemovalParameters, anomalous_and_erased
from data_prep.errors import DataError
from data_prep.files import write_atomic
from data_prep.images import read_grey8, read_mask
from data_prep.prepared import MASKS, code_checksum, encode_png
from data_prep.simulation.scenes import SCENES
from data_prep.target_removal import image_rng

#: What a simulation writes, and may replace.
OWN_FILES = re.compile(
    r"(images|masks|vehicles)/scene\d{4}\.png|index\.csv|simulation\.json|(.*/)?\.[^/]*\.tmp"
)


class Parameters(RemovalParameters):
    """Parameters of a simulated dataset; the defaults of some depend on the scene."""

    scenes: int = Field(default=60, ge=4, le=9999, description="number of images")
    size: int = Field(default=128, ge=64, le=2048, description="side of an image, px")
    looks: int = Field(default=1, ge=1, le=100, description="looks that are averaged")


def simulate(dataset: str, raw: Path, parameters: Parameters, seed: int) -> None:
    """Write the raw images of a simulated dataset to `raw`, unless they are there already, or others are."""
    header = {"dataset": dataset, "seed": seed, "code": code_checksum()}
    header |= {key: getattr(parameters, key) for key in ("scenes", "size", "looks")}
    done = raw / "simulation.json"
    if done.exists() and json.loads(done.read_bytes()) == header:
        return
    there = [path.relative_to(raw).as_posix() for path in sorted(raw.rglob("*")) if not path.is_dir()]
    for stranger in [name for name in there if not OWN_FILES.fullmatch(name)][:1]:
        raise DataError(raw, "an empty folder to simulate into", repr(stranger), "give another")
    done.unlink(missing_ok=True)
    for sub in ("images", *MASKS.values()):
        (raw / sub).mkdir(parents=True, exist_ok=True)
        for old in (raw / sub).iterdir():
            old.unlink()
    kind, rows = SCENES[dataset], []
    backgrounds = round(kind.background_share * parameters.scenes)
    for number in range(parameters.scenes):
        name, split, targets = f"scene{number:04d}", "train" if number % 2 else "test", number >= backgrounds
        rng = image_rng(seed, f"{dataset}/{name}")
        scene = kind.scene(parameters.size, parameters.looks, split, targets, rng)
        write_atomic(raw / "images" / f"{name}.png", encode_png(scene.image))
        for column, sub in MASKS.items() if targets else ():
            if (mask := getattr(scene, column)) is not None:
                write_atomic(raw / sub / f"{name}.png", encode_png(mask.astype(np.uint8) * 255))
        rows.append((name, split, scene.category if targets else "background"))
    index = pd.DataFrame(rows, columns=["name", "split", "class"])
    write_atomic(raw / "index.csv", index.to_csv(index=False, lineterminator="\n").encode())
    write_atomic(done, json.dumps(header, indent=2).encode())


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], Report]:
    """The simulated scenes by their index."""
    found = []
    for row in pd.read_csv(raw / "index.csv").to_dict("records"):
        file = f"{row['name']}.png"
        files = [raw / "images" / file]
        if row["class"] != "background":
            files += [raw / "masks" / file, *(raw / "vehicles").glob(file)]
        found.append(Item(row["name"], f"images/{row['name']}.png", row["split"], row["class"], tuple(files)))
    return found, {}


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """A scene with targets and its erased copy, or a background as it is."""
    image = read_grey8(item.files[0])
    if len(item.files) == 1:
        return [Record(item.name, "normal", item.split, item.category, item.source, image)]
    mask, *vehicle = (read_mask(path, image.shape) for path in item.files[1:])
    whole, *erased = anomalous_and_erased(item, image, mask, parameters, seed)
    return [replace(whole, vehicle=vehicle[0]) if vehicle else whole, *erased]


DATASETS = {
    name: Dataset(
        title=scene.title,
        items=items,
        load=load,
        parameters=Parameters,
        defaults={"looks": scene.looks, "removal": scene.removal, "scenes": scene.scenes, "dilation": 11},
        simulate=partial(simulate, name),
        licence="MIT, as this project",
    )
    for name, scene in SCENES.items()
}

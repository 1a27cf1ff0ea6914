"""A prepared dataset: its manifest, the splits that a seed draws, and image batches decoded ahead of the
compute."""

import json
from collections import deque
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from data_prep.errors import DataError
from data_prep.prepared import read_manifest
from padim_ace.experiment.protocols import ARMS, TEST_SHARE, TRAIN_SHARE

LEVELS = {"pixel": "mask", "vehicle": "vehicle"}  #: The truths of maps, and the manifest's column of each
AHEAD = 2  #: Batches that are decoded, or in work, beyond the one that is asked for
_NEEDED = [("train", False), ("signature", True)]
_NEEDED += [(role, anomalous) for role in ("validation", "test") for anomalous in (False, True)]


@dataclass
class PreparedDataset:
    """A folder in the prepared format (``book/prepared_format.md``)."""

    root: Path
    manifest: pd.DataFrame

    @classmethod
    def open(cls, root: Path | str) -> "PreparedDataset":
        """Read the manifest, with the errors of ``data_prep.read_manifest``."""
        return cls(Path(root), read_manifest(Path(root)))

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def anomalous(self) -> Bool[np.ndarray, " image"]:
        """Which images hold targets."""
        return (self.manifest["label"] == "anomalous").to_numpy()

    @property
    def has_twins(self) -> bool:
        """Whether a scene has normal and anomalous images, such as erased copies and their originals."""
        scenes = self.manifest["scene"]
        return bool(scenes[~self.anomalous].isin(scenes[self.anomalous]).any())

    @property
    def preparation(self) -> dict:
        """The parameters and reports of the preparation."""
        return json.loads((self.root / "preparation.json").read_text(encoding="utf-8"))

    def draw_roles(self, seed: int, protocol: str) -> np.ndarray:
        """Each image's role in an experiment with this seed, as an array of words.

        - ``paper``: of the normal images 80% train, 10% are for validation and 10% for the test. The
          anomalous images of the release's test split are halved between validation and test; those of its
          train split make signatures.
        - ``scenes``: so are the scenes dealt, with all their images; the anomalous images of those that
          train make signatures.
        - ``apart``, ``twins``: by scenes, but the anomalous images of test scenes are tested beside the
          normal images of validation scenes. In ``twins`` the normal images of the scenes with tested
          anomalous images train, in place of as many others.

        Raises:
            DataError: if a role would be empty.
        """
        generator = np.random.default_rng(seed)
        roles = self._paper_roles(generator) if protocol == "paper" else self._scene_roles(generator)
        if protocol in ARMS:
            roles = self._arm(roles, generator, protocol == "twins")
        for role, anomalous in _NEEDED:
            is_needed = role != "validation" or protocol not in ARMS
            if is_needed and not ((roles == role) & (self.anomalous == anomalous)).any():
                kind = "anomalous" if anomalous else "normal"
                advice = "add images" if protocol == "paper" else "add images of other scenes"
                raise DataError(self.root / "manifest.csv", f"{kind} images for {role}", "none", advice)
        return roles

    def _paper_roles(self, generator: np.random.Generator) -> np.ndarray:
        roles = np.empty(len(self), dtype=object)
        normal = generator.permutation(np.flatnonzero(~self.anomalous))
        train, validation = (int(round(share * len(normal))) for share in (TRAIN_SHARE, 1 - TEST_SHARE))
        roles[normal[:train]] = "train"
        roles[normal[train:validation]] = "validation"
        roles[normal[validation:]] = "test"
        released_for_test = (self.manifest["split"] == "test").to_numpy()
        roles[self.anomalous & ~released_for_test] = "signature"
        held_out = generator.permutation(np.flatnonzero(self.anomalous & released_for_test))
        roles[held_out[: len(held_out) // 2]] = "validation"
        roles[held_out[len(held_out) // 2 :]] = "test"
        return roles

    def _scene_roles(self, generator: np.random.Generator) -> np.ndarray:
        """The scenes are dealt by themselves where they hold targets or not, and by the release's split of
        their first image, unless one of its splits would have fewer than three."""
        images = self.manifest.assign(anomalous=self.anomalous)
        scenes = images.groupby("scene").agg(anomalous=("anomalous", "max"), split=("split", "first"))
        sizes = scenes.value_counts()
        few = sizes[sizes < 3].index.get_level_values("anomalous")
        scenes.loc[scenes["anomalous"].isin(few), "split"] = ""
        role_of: dict[str, str] = {}
        for _, names in scenes.groupby(["anomalous", "split"]).groups.items():
            order = generator.permutation(names)
            held_out = max(round(TEST_SHARE * len(order)), 1) if len(order) > 2 else 0
            role_of |= dict.fromkeys(order, "train") | dict.fromkeys(order[:held_out], "test")
            role_of |= dict.fromkeys(order[held_out : 2 * held_out], "validation")
        roles = self.manifest["scene"].map(role_of).to_numpy(dtype=object)
        roles[self.anomalous & (roles == "train")] = "signature"
        return roles

    def _arm(self, roles: np.ndarray, generator: np.random.Generator, leak: bool) -> np.ndarray:
        """Roles by scenes made one of two arms, which have the same tested images and as many that train."""
        tested = self.manifest["scene"].isin(self.manifest["scene"][self.anomalous & (roles == "test")])
        twins = np.flatnonzero(tested & ~self.anomalous)
        arm = roles.copy()
        arm[~self.anomalous & (roles == "test")] = arm[self.anomalous & (roles == "validation")] = ""
        arm[~self.anomalous & (roles == "validation")] = "test"
        if leak:
            arm[generator.permutation(np.flatnonzero(roles == "train"))[: len(twins)]] = ""
            arm[twins] = "train"
        return arm

    def image(self, index: int, size: tuple[int, int]) -> Float[Tensor, "1 row column"]:
        """An image in [0, 1], grey, resized (bilinear, antialiased) to ``size`` rows and columns."""
        grey = self.read_grey(self.root / self.manifest["path"].iloc[index])
        image = torch.from_numpy(grey).float().div_(255)[None, None]
        if grey.shape != size:
            image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
        return image[0]

    def mask(self, index: int, size: tuple[int, int], level: str = "pixel") -> Bool[Tensor, "row column"]:
        """Where the targets of an image are, resized (nearest) to ``size``; nowhere in a normal image.

        At the level ``vehicle`` they are without their shadow. An anomalous image without a mask is a
        DataError.
        """
        if not self.anomalous[index]:
            return torch.zeros(size, dtype=torch.bool)
        name = self.manifest[LEVELS[level]].iloc[index]
        if not name:
            path = self.root / self.manifest["path"].iloc[index]
            raise DataError(path, "a mask for this anomalous image", "none", "prepare with masks")
        mask = torch.from_numpy(self.read_grey(self.root / name))
        if mask.shape != size:
            mask = F.interpolate(mask[None, None], size=size, mode="nearest")[0, 0]
        return mask > 0

    @property
    def levels(self) -> list[str]:
        """Those of ``LEVELS`` at which every anomalous image has a mask; metrics of pixels need them."""
        return [level for level, column in LEVELS.items() if self.manifest.loc[self.anomalous, column].all()]

    @staticmethod
    def read_grey(path: Path) -> UInt8[np.ndarray, "row column"]:
        """A file of the dataset as it is; a DataError if it is missing or does not decode."""
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            found = "no file" if not path.is_file() else "a file that does not decode"
            raise DataError(path, "an 8-bit grey PNG", found, "prepare again")
        return grey


@dataclass
class Batch:
    """Images decoded together."""

    index: np.ndarray  #: Their rows in the manifest, those that the caller knew first
    images: Float[Tensor, "unknown 1 row column"]  #: Those that the caller did not know
    masks: dict[str, Bool[Tensor, "batch row column"]]  #: By their level


def batches(
    dataset: PreparedDataset,
    index: Sequence[int] | np.ndarray,
    size: tuple[int, int],
    batch_size: int,
    *,
    what: str = "",
    levels: Sequence[str] = (),
    workers: int = 2,
    known: Container[int] = (),
) -> Iterator[Batch]:
    """Batches in the given order, decoded by threads while the caller computes.

    Args:
        dataset: where the images are.
        index: rows of the manifest.
        size: rows and columns to resize to.
        batch_size: images in a batch; the last may be smaller.
        what: the progress bar says.
        levels: of the masks to read too.
        workers: decoding threads.
        known: rows whose images the caller has no need of.
    """
    index = np.asarray(index, int)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(index), desc=what, unit="image", mininterval=1) as bar,
    ):

        def start(first: int) -> tuple[np.ndarray, Iterator[Tensor], dict[str, Iterator[Tensor]]]:
            rows = index[first : first + batch_size].tolist()
            unknown = [row for row in rows if row not in known]
            rows = [row for row in rows if row in known] + unknown
            images = pool.map(lambda row: dataset.image(row, size), unknown)
            masks = {level: pool.map(partial(dataset.mask, size=size, level=level), rows) for level in levels}
            return np.array(rows), images, masks

        started = map(start, range(0, len(index), batch_size))
        pending = deque(islice(started, AHEAD))
        while pending:
            pending.extend(islice(started, 1))
            rows, images, masks = pending.popleft()
            decoded = [*images]
            stacked = torch.stack(decoded) if decoded else torch.empty(0, 1, *size)
            yield Batch(rows, stacked, {level: torch.stack([*found]) for level, found in masks.items()})
            bar.update(len(rows))

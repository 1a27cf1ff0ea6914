"""A scene cut into windows that overlap by what the network sees, and read ahead of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from padim_ace.scene.model import Inner, SceneModel
from padim_ace.scene.reading import Scene, Window

INNER = 1536
"""Side of a window's inner part, in pixels that the network sees. Memory grows with its square."""
ALIGNED = 256
"""Inner parts begin at multiples of it, in pixels of the scene, as do blocks of the rasters written."""
EDGE = 48
"""How far a scene is continued beyond its border, mirrored, in pixels that the network sees."""


class Tile(NamedTuple):
    """A window: rows and columns of the scene, and the inner part of it, which may end beyond the scene."""

    rows: range
    columns: range
    inner: Inner

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the scene where the inner part begins."""
        return self.rows.start + self.inner[0].start, self.columns.start + self.inner[1].start


def tiles(size: tuple[int, int], model: SceneModel, inner: int = INNER) -> list[Tile]:
    """The windows of a scene, row by row.

    At the scene's border a window has :data:`EDGE` in place of a margin, whichever window it is.
    """
    zoom, block = model.options.zoom, model.block
    side = max(inner // zoom // ALIGNED, 1) * ALIGNED
    edge = -(-EDGE // (zoom * block)) * block

    def spans(length: int) -> list[tuple[range, slice]]:
        end = -(-length // block) * block
        found = []
        for start in range(0, length, side):
            stop = min(start + side, end)
            seen = range(max(start - model.reach, -edge), min(stop + model.reach, end + edge))
            found.append((seen, slice(start - seen.start, stop - seen.start)))
        return found

    across = spans(size[1])
    return [Tile(row, column, (down, right)) for row, down in spans(size[0]) for column, right in across]


def windows(scene: Scene, model: SceneModel, inner: int, verb: str) -> Iterator[tuple[Tile, Window]]:
    """The windows of a scene, each read while the one before it is computed on, with a progress bar."""
    todo = tiles(scene.size, model, inner)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(scene.window, todo[0].rows, todo[0].columns, model.scaling)
        for number, tile in enumerate(
            tqdm(todo, f"{verb} {scene.path.name}", unit="window", disable=None), 1
        ):
            window = ahead.result()
            for following in todo[number : number + 1]:
                ahead = reader.submit(scene.window, following.rows, following.columns, model.scaling)
            yield tile, window


def pooled(pixels: np.ndarray, side: int) -> Float[Tensor, "patch_row patch_column"]:
    """The mean over each patch."""
    rows, columns = (n // side for n in pixels.shape)
    return torch.from_numpy(pixels.reshape(rows, side, columns, side).mean((1, 3), dtype=np.float32))

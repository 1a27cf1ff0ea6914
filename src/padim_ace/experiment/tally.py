"""What detectors are measured by: image scores and histograms of pixels, for every draw and detector."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from padim_ace.detect.maps import image_score
from padim_ace.experiment.dataset import LEVELS, PreparedDataset
from padim_ace.experiment.metrics import Histogram, Truth, count, image_metrics
from padim_ace.experiment.protocols import Draw


class Tally:
    """Gathers the scores of several detectors on the images of a dataset, on the device of the maps."""

    def __init__(
        self,
        dataset: PreparedDataset,
        draws: Sequence[Draw],
        bounded: Sequence[bool],
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the images' roles; ``bounded`` says of each detector whether its scores lie in [-1, 1]."""
        self.dataset, self.draws, self.bounded, self.device = dataset, draws, bounded, device
        roles = [dataset.draw_roles(draw.seed, draw.protocol) for draw in draws]
        self.roles: Shaped[np.ndarray, "draw image"] = np.stack(roles)
        self._image = torch.full((len(draws), len(bounded), len(dataset)), torch.nan, device=device)
        self._judged: set[tuple[int, int, str]] = set()
        self.pixel: dict[tuple[int, int, str, str], Histogram] = {}
        """By (number of the draw, number of the detector, role, level of the truth)."""

    @property
    def image(self) -> Float[np.ndarray, "draw detector image"]:
        """Image scores, NaN where a detector was not asked about an image."""
        return self._image.cpu().numpy()

    def with_role(self, *roles: str) -> Int[np.ndarray, " image"]:
        """The images that have one of ``roles`` in any draw."""
        return np.flatnonzero(np.isin(self.roles, roles).any(0))

    def members(self, draw: int, index: np.ndarray, role: str = "test") -> Int[np.ndarray, " chosen"]:
        """Which of the images ``index`` have a role in the draw of this number, as places in ``index``."""
        return np.flatnonzero(self.roles[draw][index] == role)

    def add(
        self,
        key: tuple[int, int, str],
        index: Int[np.ndarray, " image"],
        maps: Float[Tensor, "image row column"],
        truths: Mapping[str, Truth],
        scores: Float[Tensor, " image"] | None = None,
    ) -> None:
        """Add the maps of the images ``index``, by number of the draw, number of the detector, and role.

        Pixels are judged by ``truths``, by their levels. Image scores are by default the maxima of the maps.
        """
        draw, detector, _ = key
        self._judged.add(key)
        rows = torch.from_numpy(index).to(self._image.device)
        self._image[draw, detector, rows] = (image_score(maps) if scores is None else scores).float()
        keys = [(*key, level) for level in truths]
        for new in set(keys) - self.pixel.keys():
            self.pixel[new] = Histogram(self.bounded[detector], self.device)
        if keys:
            count([self.pixel[k] for k in keys], maps, [*truths.values()])

    def frame(self, names: Sequence[Mapping[str, object]], role: str = "test", **where: str) -> pd.DataFrame:
        """The metrics of the images of a role, a row for each draw, detector judged in it, level and metric.

        ``names`` are the columns that name each detector, ``where`` those that all rows have in common. A
        score that is not finite is a ValueError that names its detector.
        """
        rows = []
        image, anomalous = self.image, self.dataset.anomalous
        for key in sorted(key for key in self._judged if key[2] == role):
            draw, name, judged = self.draws[key[0]], names[key[1]], self.roles[key[0]] == role
            try:
                levels = {"image": image_metrics(image[key[0], key[1], judged], anomalous[judged])}
                pixels = {level: self.pixel.get((*key, level)) for level in LEVELS}
                levels |= {level: found.metrics() for level, found in pixels.items() if found}
            except ValueError as error:
                said = f"{' '.join(map(str, name.values()))}, {draw.protocol}, seed {draw.seed}: {error}"
                raise ValueError(said) from error
            for level, metrics in levels.items():
                shared = {**where, "protocol": draw.protocol, "seed": draw.seed, "level": level, **name}
                rows += [{**shared, "metric": m, "value": value} for m, value in metrics.items()]
        return pd.DataFrame(rows)

"""From images to patch embeddings: backbone features in block order, and the random subset a seed keeps."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from padim_ace.detect.backbones import Backbone
from padim_ace.detect.inner_products import Shape
from padim_ace.detect.pyramid import Embedding, Energy, block_orders, divides
from padim_ace.detect.registry import CHANNELS, SAR_CHANNELS
from padim_ace.detect.sar_channels import sar_channels

CPU_IMAGES = 4  #: Images in the backbone at a time on a CPU, to stay in its caches between layers

Images = Float[Tensor, "batch channel row column"]


@dataclass(frozen=True)
class FeatureSubset:
    """The network's channels that a seed keeps, coarse to fine; the order of features in an embedding."""

    stages: list[Int[Tensor, " _feature"]]
    sar: bool = False  #: Whether all SAR channels follow the features of the finest stage

    @classmethod
    def draw(cls, channels: Sequence[int], features: int, seed: int) -> "FeatureSubset":
        """A random subset of the ``channels`` of all stages, fine to coarse, as PaDiM draws it.

        Raises:
            ValueError: if ``features`` is not in 1 … the number of channels.
        """
        total = sum(channels)
        if not 1 <= features <= total:
            raise ValueError(f"n_features: expected 1 to {total} (the backbone's channels), found {features}")
        generator = torch.Generator().manual_seed(seed)
        return cls.of(torch.randperm(total, generator=generator)[:features], channels)

    @classmethod
    def of(cls, index: Int[Tensor, " feature"], channels: Sequence[int]) -> "FeatureSubset":
        """From indices into the stages' channels laid end to end, fine to coarse (anomalib's order)."""
        index = index.sort().values
        bounds = torch.tensor([0, *channels]).cumsum(0).tolist()
        parts = [
            index[(index >= low) & (index < high)] - low
            for low, high in zip(bounds, bounds[1:], strict=False)
        ]
        return cls(parts[::-1])

    def index(self, channels: Sequence[int]) -> Int[Tensor, " feature"]:
        """Indices into the stages' channels laid end to end fine to coarse, in this embedding's feature
        order."""
        offsets = torch.tensor([0, *channels[:-1]]).cumsum(0).tolist()[::-1]
        return torch.cat([part + offset for part, offset in zip(self.stages, offsets, strict=True)])

    def to(self, device: torch.device | str) -> "FeatureSubset":
        """The same subset with its indices on ``device``."""
        return FeatureSubset([part.to(device) for part in self.stages], self.sar)

    def select(
        self, embedding: Embedding, images: Int[Tensor, " chosen"] | None = None
    ) -> list[Float[Tensor, "_place chosen _feature"]]:
        """A new embedding with only these channels, and only the given images of the batch."""
        one_by_one = images.tolist() if images is not None and images.device.type == "cpu" else []
        result = []
        for stage, channels in zip(embedding, self.stages, strict=False):
            if one_by_one:  # four times as fast in a CPU's caches; on a GPU, many small calls would cost more
                parts = [stage[:, image].index_select(1, channels) for image in one_by_one]
                result.append(torch.stack(parts).transpose(0, 1))
                continue
            of_images = stage if images is None else stage.index_select(1, images)
            result.append(of_images.gather(2, channels.expand(*of_images.shape[:2], -1)))
        if self.sar:
            sar = embedding[-1] if images is None else embedding[-1].index_select(1, images)
            result[-1] = torch.cat([result[-1], sar], -1)
        return result


class Embedder(nn.Module):
    """Images to embeddings of all channels, ``[place, image, feature]`` at each stage, coarse to fine.

    The tensors are views of ``[image, place, feature]`` memory, as :meth:`FeatureSubset.select` takes whole
    images next. Where one stage's grid is not a whole multiple of the next coarser one's, all stages are
    upsampled to the finest grid (nearest, as in PaDiM) and make one stage. With ``sar`` the SAR channels
    follow, as if they were one stage more.
    """

    def __init__(self, backbone: Backbone, image_size: tuple[int, int], sar: bool = False) -> None:
        super().__init__()
        self.sar = sar
        self.backbone = backbone
        self.image_size = image_size
        weight = next(backbone.parameters())
        with torch.inference_mode():
            maps = backbone(torch.zeros(1, 3, *image_size, device=weight.device, dtype=weight.dtype))
        sizes = [(m.shape[2], m.shape[3]) for m in maps[::-1]]
        self.nested = all(divides(c, f) for c, f in zip(sizes, sizes[1:], strict=False))
        self.sizes = sizes if self.nested else sizes[-1:]  #: Rows and columns of the grids, coarse to fine
        self.grid = sizes[-1]  #: That of the finest, with one score each
        self.channels = backbone.channels if self.nested else [sum(backbone.channels)]
        """Channels of the stages, fine to coarse."""
        for level, order in enumerate(block_orders(self.sizes)):
            self.register_buffer(f"order{level}", order, persistent=False)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        self.register_buffer("raster", inverse, persistent=False)
        self.raster: Tensor

    def embed(self, images: Images, normalise: bool = True, precision: str = "float32") -> Embedding:
        """Embed images in [0, 1], grey or colour, or normalised already if not ``normalise``.

        ``precision`` bfloat16 runs the backbone in it, but in no exported graph.
        """
        inputs = self.backbone.normalise(images) if normalise else images.expand(-1, 3, -1, -1)
        half = precision == "bfloat16" and not torch.compiler.is_exporting()
        with torch.autocast(images.device.type, torch.bfloat16) if half else nullcontext():
            embedding = self(inputs.contiguous(memory_format=torch.channels_last))
        if self.sar:
            grey = images if normalise else self.backbone.denormalise(images)
            channels = sar_channels(grey.mean(1, True), self.grid).flatten(2).transpose(1, 2)
            order = getattr(self, f"order{len(self.sizes) - 1}")
            embedding.append(channels.index_select(1, order).transpose(0, 1))
        return embedding

    def forward(self, images: Float[Tensor, "batch 3 row column"]) -> Embedding:
        """Embed normalised images (:meth:`padim_ace.detect.backbones.Backbone.normalise`)."""
        traced = torch.compiler.is_exporting() or torch.jit.is_tracing()
        if images.device.type != "cpu" or traced or len(images) <= CPU_IMAGES:
            return [stage.float().transpose(0, 1) for stage in self._ordered(images)]
        parts = [self._ordered(part) for part in images.split(CPU_IMAGES)]
        return [torch.cat(stages).float().transpose(0, 1) for stages in zip(*parts, strict=True)]

    def _ordered(self, images: Tensor) -> list[Float[Tensor, "image _place _feature"]]:
        maps = self.backbone(images)
        if not self.nested:
            size = maps[0].shape[-2:]
            maps = [torch.cat([maps[0], *(F.interpolate(m, size=size, mode="nearest") for m in maps[1:])], 1)]
        return [
            feature_map.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, getattr(self, f"order{level}"))
            for level, feature_map in enumerate(maps[::-1])
        ]

    def shape(self, subset: FeatureSubset) -> Shape:
        """Places and features of the stages, where a subset of the channels is kept."""
        places = tuple(rows * columns for rows, columns in self.sizes)
        features = [len(stage) for stage in subset.stages]
        features[-1] += subset.sar * sum(SAR_CHANNELS.values())
        return Shape(places, tuple(features))

    def covered(self, masks: Bool[Tensor, "image row column"]) -> Energy:
        """The part of each patch of the finest grid that a mask covers, in block order."""
        covered = F.adaptive_avg_pool2d(masks.to(self.raster.device).unsqueeze(1).float(), self.grid)
        return covered.flatten(1).T[getattr(self, f"order{len(self.sizes) - 1}")]

    def to_raster(self, scores: Shaped[Tensor, "place *rest"]) -> Shaped[Tensor, "*rest row column"]:
        """Scores of the finest grid, from block order to images."""
        return scores.index_select(0, self.raster).movedim(0, -1).unflatten(-1, self.grid)


def kept_features(features: int, channels: str) -> Int[Tensor, " kept"] | None:
    """Which features of the finest stage, all SAR channels at the end of it, the ``channels`` of a detector
    keep; None for all of them."""
    if len(CHANNELS[channels]) == len(SAR_CHANNELS):
        return None
    kinds = [kind for kind, number in SAR_CHANNELS.items() for _ in range(number)]
    kept = [features - len(kinds) + n for n, kind in enumerate(kinds) if kind in CHANNELS[channels]]
    return torch.tensor([*range(features - len(kinds)), *kept], dtype=torch.long)

"""The detector of a scene: a backbone, one background for all places and, perhaps, a target signature.

It works on *blocks*: what one patch of the coarsest stage covers, with the patches of the finer stages in it.
An embedding is that of ``padim_ace.detect.pyramid`` with the patches of a block for its places and blocks
for its images: with a shared background it does not matter where in a scene a block lies.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect import Backbone, FeatureSubset, Moments, fit_background, load_backbone, patch_scores
from padim_ace.detect.backbones import fold_batch_norm
from padim_ace.detect.background import Background
from padim_ace.detect.detector import RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.detect.pyramid import BlockRows, Embedding, block_orders, energy, flatten, lower_product
from padim_ace.detect.registry import CHANNELS, SAR_CHANNELS
from padim_ace.detect.sar_channels import sar_channels
from padim_ace.detect.signature import Bags, as_embedding, learn
from padim_ace.scene.place import SceneError
from padim_ace.scene.scaling import Scaling
from padim_ace.scene.tail import Tail

FORMAT = "padim-ace scene model, version 1"
PROBE = 512
"""Side of the image that the reach of a backbone is measured on, in pixels."""
Inner = tuple[slice, slice]
"""The part of a window that is embedded, whole blocks, in pixels of the window."""


class Options(NamedTuple):
    """What is chosen before a fit."""

    backbone: str = "tf_efficientnet_lite0"
    features: int = 100
    seed: int = 0
    zoom: int = 1
    """The factor by which scenes are enlarged before the network; 2 suits targets of a few pixels."""
    channels: str = "sar"
    """``network`` leaves out the SAR channels, as PaDiM does."""


class SceneModel:
    """Fit it window by window with :meth:`update`, then :meth:`fit`; :meth:`score` windows.

    Windows are grey levels in [0, 1] that go ``reach`` pixels beyond their inner part.
    """

    def __init__(
        self,
        options: Options,
        scaling: Scaling,
        device: str = "cpu",
        *,
        backbone: Backbone | None = None,
        seen: tuple[list[int], int] | None = None,
    ) -> None:
        """Load the backbone, unless it is given, with what it sees (``strides_and_reach``).

        Raises:
            ValueError: for a zoom other than 1, 2 or 4, or a backbone that sees all of an image at once.
        """
        if options.zoom not in (1, 2, 4):
            raise ValueError(f"zoom: expected 1, 2 or 4, found {options.zoom}")
        self.options, self.scaling, self.device = options, scaling, torch.device(device)
        self.backbone = (backbone or load_backbone(options.backbone)).to(self.device)
        self._folded = fold_batch_norm(self.backbone, (64, 64))
        subset = FeatureSubset.draw(self.backbone.channels, options.features, options.seed)
        self.subset = subset.to(self.device)
        self.seen = seen or strides_and_reach(self.backbone)
        coarse, *_, fine = strides = self.seen[0]
        self.block, self.patch = coarse // options.zoom, max(fine // options.zoom, 1)
        """Sides of a block, and of a patch, which has one score, in pixels of the scene."""
        self.reach = -(-self.seen[1] // coarse) * self.block
        """How far from a patch the network sees, in pixels of the scene, rounded up to whole blocks."""
        self.orders = block_orders([(coarse // stride,) * 2 for stride in strides])
        self.moments = Moments()
        self.background: Background | None = None
        self.direction: Float[Tensor, " feature"] | None = None
        self.tail: Tail | None = None
        self.made: dict[str, Any] = {}
        """How it was made, as plain data."""

    @torch.inference_mode()
    def embed(self, grey: Float[Tensor, "row column"], inner: Inner) -> Embedding:
        """The inner part of a window, as blocks: ``[place in the block, block, feature]`` at each stage."""
        zoom, images = self.options.zoom, grey.to(self.device)[None, None]
        if zoom > 1:
            images = torch.nn.functional.interpolate(images, scale_factor=zoom, mode="bilinear")
        inputs = self.backbone.normalise(images).contiguous(memory_format=torch.channels_last)
        maps = [m[0, kept] for m, kept in zip(self._folded(inputs)[::-1], self.subset.stages, strict=True)]
        if self.options.channels == "sar":
            maps[-1] = torch.cat([maps[-1], sar_channels(images, maps[-1].shape[-2:])[0]])
        stages = []
        for stage, stride, order in zip(maps, self.seen[0], self.orders, strict=True):
            rows, columns = (slice(p.start * zoom // stride, p.stop * zoom // stride) for p in inner)
            stages.append(_as_blocks(stage[:, rows, columns], self.seen[0][0] // stride)[order])
        return stages

    def update(self, embedding: Embedding) -> None:
        """Add blocks of normal scenes to the background that is being fitted."""
        self.moments.update(embedding)

    def fit(self) -> None:
        """The background of the blocks that were added; a signature stays what it is in the features' space.

        Raises:
            ValueError: for fewer normal patches than features.
        """
        patches, features = self.moments.count * len(self.orders[-1]), sum(self.features)
        if patches <= features:
            raise ValueError(
                f"normals: expected more valid patches than {features} features, found {patches}"
            )
        before, self.background = self.background, fit_background(self.moments, "shared")
        if self.direction is not None and before is not None:
            old, new = (self._dense(b.whitening) for b in (before, self.background))
            raw = torch.linalg.solve_triangular(old, self.direction.double()[:, None], upper=False)
            self.direction = torch.nn.functional.normalize((new @ raw)[:, 0], dim=0).float()
        self.moments = Moments()

    def _dense(self, rows: BlockRows) -> Float[Tensor, "feature feature"]:
        """A lower triangular matrix, written out, in float64."""
        columns = as_embedding(torch.eye(sum(self.features), device=self.device), self.features)
        return flatten(lower_product(rows, columns))[0].T.double()

    def anew(self) -> SceneModel:
        """The same, to be fitted to another background; this one stays as it is."""
        other = copy.copy(self)
        other.moments = Moments()
        return other

    def whiten(self, embedding: Embedding) -> Embedding:
        """Embeddings measured from the background."""
        assert self.background is not None
        return lower_product(self.background.whitening, self.background.centre(embedding))

    def fit_signature(self, targets: Bags, clutter: Bags) -> None:
        """Look for targets like those of some whitened patches, and unlike the clutter, from now on."""
        assert self.background is not None
        samples = self.background.samples
        self.direction = learn(RECOMMENDED.signature, targets, clutter, samples).float()

    @property
    def detector(self) -> Detector:
        """How patches are scored, but for the background, which is shared, and for the smoothing."""
        return UNSUPERVISED if self.direction is None else RECOMMENDED

    @property
    def features(self) -> list[int]:
        """The number of features of each stage, from coarse to fine; the finest has the SAR channels too."""
        *coarse, fine = (len(stage) for stage in self.subset.stages)
        return [*coarse, fine + sum(SAR_CHANNELS[kind] for kind in CHANNELS[self.options.channels])]

    @torch.inference_mode()
    def score_blocks(self, embedding: Embedding) -> Float[Tensor, "place block"]:
        """The score of each patch of the finest stage."""
        white = self.whiten(embedding)
        length, along = energy(white), None
        if self.direction is not None:
            along = flatten(white) @ self.direction
        assert self.background is not None
        unit = length.new_ones(len(length), 1)
        return patch_scores(self.detector, along, length, unit, self.background.samples)

    def score(self, grey: Float[Tensor, "row column"], inner: Inner) -> Float[Tensor, "_row _column"]:
        """The scores of the inner part of a window, one for each patch."""
        blocks = self.score_blocks(self.embed(grey, inner))
        side, grid = self.block // self.patch, [(part.stop - part.start) // self.block for part in inner]
        parts = blocks[self.orders[-1].argsort()].view(side, side, *grid).permute(2, 0, 3, 1)
        return parts.reshape(side * grid[0], side * grid[1])

    def to_blocks(self, patches: Float[Tensor, "patch_row patch_column"]) -> Float[Tensor, "place block"]:
        """Numbers of patches, laid out as :meth:`score_blocks` lays out scores."""
        return _as_blocks(patches[None], self.block // self.patch)[self.orders[-1], :, 0]

    def save(self, path: Path) -> None:
        """Write all of it to one file, the backbone's weights too."""
        assert self.background is not None
        background = vars(self.background)
        background = background | {name: vars(background[name]) for name in ("covariance", "whitening")}
        state = {
            "format": FORMAT,
            "options": self.options._asdict(),
            "scaling": vars(self.scaling),
            "layers": self.backbone.layers,
            "weights": self.backbone.model.state_dict(),
            "seen": self.seen,
            "background": background,
            "direction": self.direction,
            "tail": self.tail and vars(self.tail),
            "made": self.made,
        }
        torch.save(state, path)

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> SceneModel:
        """A model from its file, of which nothing is run; its checksum is in ``made``.

        Raises:
            SceneError: for another file, or a model of another version.
        """
        torch.empty(0, device=device)  # a device that is not there is no fault of the file
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other pickles, which are refused
                state = torch.load(path, map_location=device, weights_only=True)
            found = str(state["format"])
        except Exception as error:  # torch raises many kinds for a file that is not its own
            found = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        if found != FORMAT:
            raise SceneError(f"{path}: expected a {FORMAT}, found {found}; make one by `padim-ace fit`")
        options = Options(**state["options"])
        backbone = load_backbone(options.backbone, "random", None, state["layers"])
        backbone.model.load_state_dict(state["weights"])
        model = cls(options, Scaling(**state["scaling"]), device, backbone=backbone, seen=state["seen"])
        background = state["background"]
        background |= {name: BlockRows(**background[name]) for name in ("covariance", "whitening")}
        model.background, model.direction = Background(**background), state["direction"]
        model.tail = Tail(**state["tail"]) if state["tail"] else None
        model.made = state["made"] | {"sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
        return model


def _as_blocks(maps: Tensor, side: int) -> Tensor:
    """``[feature, row, column]`` to ``[place in the block, block, feature]``, both in raster order."""
    features, rows, columns = maps.shape
    parts = maps.reshape(features, rows // side, side, columns // side, side)
    return parts.permute(2, 4, 1, 3, 0).reshape(side * side, -1, features)


def strides_and_reach(backbone: Backbone) -> tuple[list[int], int]:
    """The strides of a backbone's stages, coarse to fine, and how many pixels beyond a patch it sees.

    What it sees for a patch in the middle of an image is where the patch's features have a gradient.

    Raises:
        ValueError: if that is the whole image: attention, or a mean over the image.
    """
    image = torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0))
    image = image.to(backbone.mean.device).requires_grad_()
    with torch.enable_grad():
        maps = backbone(image)[::-1]
    strides, reach = [PROBE // stage.shape[-1] for stage in maps], 0
    for stage, stride in zip(maps, strides, strict=True):
        middle = stage.shape[-1] // 2
        (gradient,) = torch.autograd.grad(stage[..., middle, middle].sum(), image, retain_graph=True)
        seen = gradient[0].abs().sum(0).nonzero()
        reach = max(reach, middle * stride - int(seen.min()), int(seen.max()) + 1 - (middle + 1) * stride)
    if reach > PROBE // 2 - 2 * strides[0]:
        raise ValueError(
            "backbone: expected one that sees a part of a scene at a time, such as tf_efficientnet_lite0, "
            f"found {backbone.name}, which sees all of it"
        )
    return strides, reach

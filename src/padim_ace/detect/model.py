"""PaDiM-ACE as one torch module: streams a fit, keeps what it learnt in buffers, maps images to scores.

The statistics are the experiments' own. Here they are wired for one detector, so that ``state_dict`` holds
all of it and ``torch.export`` can follow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from padim_ace.detect.backbones import Backbone, load_backbone
from padim_ace.detect.background import Background, Moments, centre, fit_background
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import Embedder, FeatureSubset
from padim_ace.detect.inner_products import Full, InnerProduct, Isotropic, Prepared, Weighted, inner_product
from padim_ace.detect.maps import anomaly_map, image_score, smoothing_matrix
from padim_ace.detect.pool import Pool
from padim_ace.detect.pyramid import BlockRows, Embedding
from padim_ace.detect.registry import SIGNATURES
from padim_ace.detect.signature import MeanSignature, as_embedding
from padim_ace.detect.statistics import patch_scores

PRECISIONS = ("float32", "bfloat16")
FITTED = ("mean", "own", "cross", "weights", "variance", "direction", "signature_energy", "samples")
"""Names of the buffers that a fit fills, each followed by the number of its stage."""
CLUTTER_IMAGES = 64
"""Normal images whose embeddings are kept until the end of a fit, for signatures that are held against
clutter."""

SignatureBatch = tuple[Float[Tensor, "batch channel row column"], Bool[Tensor, "batch row column"] | None]


class Scored(NamedTuple):
    """What a detector says of a batch of images."""

    image_score: Float[Tensor, " batch"]
    anomaly_map: Float[Tensor, "batch 1 row column"]


class AceModel(nn.Module):
    """Images in, score and anomaly map out.

    Fit: :meth:`update` for each batch of normal images, then :meth:`fit` with the signature images. A fitted
    state loads into a model of the same arguments, whatever image size either has seen.
    """

    index: Tensor
    image_size: Tensor
    smoothing_r: Tensor
    smoothing_c: Tensor
    moments: Moments

    def __init__(
        self,
        backbone: Backbone,
        detector: Detector,
        features: int = 100,
        seed: int = 0,
        image_size: tuple[int, int] = (256, 256),
        precision: str = "float32",
    ) -> None:
        """Draw the feature subset.

        Args:
            backbone: with its weights.
            detector: an ``ace`` or ``glrt`` detector, without deviations.
            features: how many channels to keep.
            seed: of the random choice of channels.
            image_size: rows and columns of the images.
            precision: ``float32``, or ``bfloat16`` for the backbone's pass (statistics stay in float32).

        Raises:
            ValueError: if ``features`` is more than the backbone has, or for an unknown precision.
        """
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
        self.detector = detector
        self.precision = precision
        self.normalise: bool = True
        """Whether to normalise images as the backbone's weights want it; not if the pre-processor does."""
        self._normal: list[Embedding]
        self.begin()
        drawn = FeatureSubset.draw(backbone.channels, features, seed)
        self.register_buffer("index", drawn.index(backbone.channels).sort().values)
        self._embed_at(backbone, image_size)

    def _embed_at(self, backbone: Backbone, image_size: tuple[int, int]) -> None:
        """Prepare for images of this size: everything that depends on the patch grid."""
        self.embedder = Embedder(backbone, image_size)
        device = self.index.device
        self.register_buffer("image_size", torch.tensor(image_size, device=device))
        subset = FeatureSubset.of(self.index, self.embedder.channels).to(device)
        for level, part in enumerate(subset.stages):
            self.register_buffer(f"subset{level}", part, persistent=False)
        for axis, patches, pixels in zip("rc", self.embedder.grid, image_size, strict=True):
            matrix = smoothing_matrix(patches, pixels).to(device)
            self.register_buffer(f"smoothing_{axis}", matrix, persistent=False)
        self.shape = self.embedder.shape(subset)
        self.embedder.to(device)

    # fitting

    def begin(self) -> None:
        """Forget the normal images of a fit that did not come to its end."""
        self.moments = Moments()
        self._normal = []

    @torch.no_grad()
    def update(self, images: Float[Tensor, "batch channel row column"]) -> None:
        """Add normal images to the background's moments; memory does not grow with their number."""
        size = (images.shape[-2], images.shape[-1])
        if not self.moments.count and size != self.embedder.image_size:
            self._embed_at(self.embedder.backbone, size)
        embedding = self._embed(images)
        room = CLUTTER_IMAGES - self.moments.count
        if Pool([self.detector]).contrasts and room > 0:
            self._normal.append([stage[:, :room] for stage in embedding])
        # in float64, or the order of the images would show in scores' fifth decimal where they are few
        self.moments.update([stage.double() for stage in embedding])

    @torch.no_grad()
    def fit(self, signature: Iterable[SignatureBatch]) -> None:
        """Background, then signature, from the images seen.

        Args:
            signature: batches of anomalous images, in [0, 1], with masks where the signature is ``masked``.

        Raises:
            ValueError: for fewer than two normal images, no anomalous image, or none with a mask.
        """
        if distributed():
            self.moments.all_reduce()
        background = fit_background(self.moments, self.detector.background)
        product = inner_product(background, self.detector.covariance, self.shape)
        prepared = self._signature(background, product, signature)
        self.begin()
        self._forget()
        self._keep("mean", background.mean)
        if isinstance(product, Full):
            self._keep("own", product.whitening.own)
            self._keep("cross", product.whitening.cross)
        elif isinstance(product, Weighted):
            self._keep("weights", list(product.weights))
        elif isinstance(product, Isotropic):
            self._keep("variance", [product.variance[:, 0]])
        self._keep("direction", prepared.directions)
        self._keep("signature_energy", [prepared.energy])
        self._keep("samples", [torch.tensor(float(background.samples), device=self.index.device)])

    def _signature(
        self, background: Background, product: InnerProduct, batches: Iterable[SignatureBatch]
    ) -> Prepared:
        """The signature ready to be projected on.

        Every rank of a distributed run sees all signature images, so only clutter adds up.
        """
        mean, pool = MeanSignature(), Pool([self.detector])
        for images, masks in batches:
            embedding = self._embed(images)
            if not isinstance(product, Full) or not pool.needed:
                mean.update(embedding)
                continue
            if SIGNATURES[self.detector.signature].supervision == "masks" and masks is None:
                raise ValueError("masked signature: expected a mask for each anomalous image, found none")
            covered = None if masks is None else self.embedder.covered(masks)
            white = product.whiten(background.centre(embedding))
            pool.add(white, covered, torch.zeros(len(images), device=white[0].device))
        if not isinstance(product, Full) or not pool.needed:
            return product.prepare(background.centre(mean.mean()))
        for normal in self._normal:
            pool.add_clutter(product.whiten(background.centre(normal)))
        if distributed():
            pool.all_reduce_clutter()
        directions = pool.signatures()[self.detector.pool]
        return product.prepare_whitened(as_embedding(directions, self.shape.features))

    # scoring

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "batch channel row column"]) -> Scored:
        """Score images in [0, 1], grey or colour, of the size that it was fitted on.

        Returns:
            the image scores, and the maps that they are the maxima of: the statistic, in [-1, 1] (for
            ``ace`` the cosine with the signature).

        Raises:
            ValueError: if the model is not fitted, or was on another image size.
        """
        if not self.is_fitted:
            raise ValueError("PadimAce: expected a fitted model, found none; call fit or load a checkpoint")
        product = self._product()
        prepared = Prepared(self._kept("direction"), self._kept("signature_energy")[0])
        length, (projection,) = product.measure(centre(self._embed(images), self._kept("mean")), [prepared])
        samples = self._kept("samples")[0]
        scores = patch_scores(self.detector, projection, length, prepared.energy[:, :1], samples)
        smooth = anomaly_map(self.embedder.to_raster(scores), self.smoothing_r, self.smoothing_c).clamp(-1, 1)
        return Scored(image_score(smooth), smooth.unsqueeze(1))

    @property
    def is_fitted(self) -> bool:
        """Whether it has a background and a signature."""
        return "direction0" in self._buffers

    def _product(self) -> InnerProduct:
        if self.detector.covariance == "full":
            whitening = BlockRows(self._kept("cross"), self._kept("own"))
            return Full(whitening, self.shape)
        if self.detector.covariance == "diagonal":
            return Weighted(self._kept("weights"), self.shape)
        return Isotropic(self._kept("variance")[0], self.shape)

    def _embed(self, images: Float[Tensor, "batch channel row column"]) -> Embedding:
        size = tuple(images.shape[-2:])
        if size != self.embedder.image_size:
            rows, columns = self.embedder.image_size
            raise ValueError(f"images: expected {rows} x {columns} pixels, found {size[0]} x {size[1]}")
        embedding = self.embedder.embed(images, self.normalise, self.precision)
        stages = len(self.embedder.sizes)
        return FeatureSubset([getattr(self, f"subset{level}") for level in range(stages)]).select(embedding)

    # state

    def _forget(self) -> None:
        for name in [name for name in self._buffers if name.rstrip("0123456789") in FITTED]:
            del self._buffers[name]

    def _keep(self, name: str, tensors: Iterable[Tensor]) -> None:
        for level, tensor in enumerate(tensors):
            self.register_buffer(f"{name}{level}", tensor.contiguous())

    def _kept(self, name: str) -> list[Tensor]:
        stages = (f"{name}{level}" for level in range(len(self.embedder.sizes)))
        return [self._buffers[stage] for stage in stages if stage in self._buffers]  # type: ignore[misc]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Take the shapes of the state: of its image size, its number of stages, its background."""
        if (size := state_dict.get(f"{prefix}image_size")) is not None:
            self.index.copy_(state_dict[f"{prefix}index"])
            image_size = tuple(size.tolist())
            backbone = self.embedder.backbone
            if image_size != self.embedder.image_size:
                # attention windows depend on the image size; the weights come with the state
                loaded = load_backbone(backbone.name, "random", image_size, backbone.layers)
                backbone = loaded.to(self.index.device)
            self._embed_at(backbone, image_size)
            self._forget()
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name.rstrip("0123456789") in FITTED:
                self.register_buffer(name, torch.empty_like(value, device=self.index.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def distributed() -> bool:
    """Whether this is one of several processes of a run."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

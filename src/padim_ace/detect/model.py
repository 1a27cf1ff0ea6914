"""PaDiM-ACE as one torch module: streams a fit, keeps what it learnt in buffers, maps images to scores.

The statistics are the experiments' own. Here they are wired for one detector, so that ``state_dict`` holds
all of it and ``torch.export`` can follow it.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from padim_ace.detect import inner_products
from padim_ace.detect.backbones import Backbone, load_backbone
from padim_ace.detect.background import Background, Moments, centre, fit_background
from padim_ace.detect.classes import class_scores, class_signatures, image_class
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import Embedder, FeatureSubset, Images, kept_features
from padim_ace.detect.inner_products import Full, InnerProduct, Isotropic, Prepared, Shape, Weighted
from padim_ace.detect.maps import anomaly_map, image_score, smoothing_matrix
from padim_ace.detect.pyramid import BlockRows, Embedding, narrow
from padim_ace.detect.registry import PRECISIONS, SIGNATURES, expect_one_of
from padim_ace.detect.signature import MeanSignature, Pool, as_embedding, require_candidates
from padim_ace.detect.statistics import patch_scores

logger = logging.getLogger(__name__)

KEPT_NORMALS = 64
"""Normal images whose embeddings are kept until the end of a fit, for signatures that are learnt against
clutter: only then is there a background to whiten them with. ResNet-18 takes 0.4 MB for each."""

SignatureBatch = tuple[Images, Bool[Tensor, "batch row column"] | None, Sequence[str]]
"""Anomalous images, their masks and their classes; these may be left empty."""
Signature = tuple[Prepared, list[Tensor]]  # and the offsets of the classes


class Scored(NamedTuple):
    """What a detector says of a batch of images."""

    pred_score: Float[Tensor, " batch"]
    anomaly_map: Float[Tensor, "batch 1 row column"]
    pred_class: Int[Tensor, " batch"] | None = None
    """Index in :attr:`AceModel.classes`, where there are two or more, whatever the score."""
    class_map: Int[Tensor, "batch patch_row patch_column"] | None = None
    """The class that each patch is nearest to, target or not."""


class Fitted(nn.Module):
    """What a fit leaves behind: one buffer for each quantity and stage, none before the first fit."""

    def keep(self, background: Background, product: InnerProduct, signature: Signature | None) -> None:
        """Replace an earlier fit by this one."""
        samples = torch.tensor(float(background.samples), device=background.mean[0].device)
        kept = {"mean": background.mean, "samples": [samples]}
        if signature is not None:
            ready, kept["class_offset"] = signature
            kept |= {"direction": ready.directions, "signature_energy": [ready.energy]}
        if isinstance(product, Full):
            kept |= {"own": product.whitening.own, "cross": product.whitening.cross}
        elif isinstance(product, Weighted):
            kept["weights"] = list(product.weights)
        elif isinstance(product, Isotropic):
            kept["variance"] = [product.variance[:, 0]]
        self._buffers.clear()
        for name, stages in kept.items():
            for level, stage in enumerate(stages):
                self.register_buffer(f"{name}{level}", stage.contiguous())

    def expect(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Make room for a state of other shapes, which is to be loaded next."""
        self._buffers.clear()
        for name, tensor in state.items():
            self.register_buffer(name, torch.empty_like(tensor, device=device))

    def stages(self, name: str) -> list[Tensor]:
        """A quantity's tensors, coarse to fine."""
        buffers: dict[str, Any] = self._buffers
        return [buffers[f"{name}{level}"] for level in range(len(buffers)) if f"{name}{level}" in buffers]

    def product(self, shape: Shape) -> InnerProduct:
        """The inner product of the covariance that was fitted."""
        if own := self.stages("own"):
            return Full(BlockRows(self.stages("cross"), own), shape)
        if weights := self.stages("weights"):
            return Weighted(weights, shape)
        return Isotropic(self.stages("variance")[0], shape)

    def signature(self) -> list[Prepared]:
        """The target signature; none, if the detector has none."""
        energy = self.stages("signature_energy")
        return [Prepared(self.stages("direction"), energy[0])] if energy else []


class AceModel(nn.Module):
    """Images in, score and anomaly map out.

    Fit it with :meth:`update` for each batch of normal images, then :meth:`fit` with the signature images. A
    fitted state brings everything that decides the scores: it loads into a model of any other arguments.
    """

    index: Tensor
    kept: Tensor | None
    smoothing_r: Tensor
    smoothing_c: Tensor

    def __init__(
        self,
        backbone: Backbone,
        detector: Detector,
        *,
        features: int = 100,
        seed: int = 0,
        image_size: tuple[int, int] = (256, 256),
        precision: str = "float32",
    ) -> None:
        """Draw the feature subset.

        Args:
            backbone: with its weights.
            detector: one without deviations.
            features: how many channels to keep.
            seed: of the random choice of channels.
            image_size: rows and columns of the images.
            precision: ``float32``, or ``bfloat16`` for the backbone's pass (statistics stay in float32).
        """
        super().__init__()
        expect_one_of("precision", precision, PRECISIONS)
        self.detector = detector
        self.precision = precision
        self.normalise: bool = True
        """Whether to normalise images as the backbone's weights want it; not if the pre-processor does."""
        self.fitted = Fitted()
        self.classes: list[str] = []
        """The names of the classes that targets are told apart by; none, if there are fewer than two."""
        self.begin()
        drawn = FeatureSubset.draw(backbone.channels, features, seed)
        self.register_buffer("index", drawn.index(backbone.channels).sort().values)
        self._embed_at(backbone, image_size)

    def _embed_at(self, backbone: Backbone, image_size: tuple[int, int]) -> None:
        """Prepare for images of this size: everything that depends on the patch grid."""
        self.embedder = Embedder(backbone, image_size, sar=self.detector.channels != "network")
        device = self.index.device
        subset = FeatureSubset.of(self.index, self.embedder.channels).to(device)
        subset = replace(subset, sar=self.embedder.sar)
        for level, part in enumerate(subset.stages):
            self.register_buffer(f"subset{level}", part, persistent=False)
        for axis, patches, pixels in zip("rc", self.embedder.grid, image_size, strict=True):
            matrix = smoothing_matrix(patches, pixels, self.detector.smoothing).to(device)
            self.register_buffer(f"smoothing_{axis}", matrix, persistent=False)
        self.shape = self.embedder.shape(subset)
        kept = kept_features(self.shape.features[-1], self.detector.channels) if subset.sar else None
        self.register_buffer("kept", None if kept is None else kept.to(device), persistent=False)
        if kept is not None:
            self.shape = replace(self.shape, features=(*self.shape.features[:-1], len(kept)))
        if self.detector.pooled:
            require_candidates(self.shape.places[-1])
        self.embedder.to(device)

    def begin(self) -> None:
        """Forget the normal images of a fit that did not come to its end."""
        self.moments = Moments()
        self._normals: list[Embedding] = []

    @torch.no_grad()
    def update(self, images: Images) -> None:
        """Add normal images to the background's moments; memory does not grow with their number."""
        size = (images.shape[-2], images.shape[-1])
        if not self.moments.count and size != self.embedder.image_size:
            self._embed_at(self.embedder.backbone, size)
        embedding = self._embed(images)
        room = KEPT_NORMALS - self.moments.count
        if Pool([self.detector]).learns and room > 0:
            self._normals.append([stage[:, :room] for stage in embedding])
        self.moments.update(embedding)

    @torch.no_grad()
    def fit(self, signature: Iterable[SignatureBatch] = ()) -> None:
        """Background, then signature, from the images seen: two normal ones or more, else a ValueError.

        ``signature`` are batches of anomalous images, in [0, 1], with masks where the signature is
        ``masked``; not looked at by a detector without a signature. If their classes are named, two or more,
        and the signature is learnt from labels of images, each class gets a signature of its own.
        """
        if distributed():
            self.moments.all_reduce()
        background = fit_background(self.moments, self.detector.background)
        product = inner_products.inner_product(background, self.detector.covariance, self.shape)
        self.classes = []
        prepared = _signature(self, background, product, signature) if self.detector.has_signature else None
        self.begin()
        self.fitted.keep(background, product, prepared)

    # scoring

    @torch.no_grad()
    def forward(self, images: Images) -> Scored:
        """Score images in [0, 1], grey or colour, of the size that it was fitted on, or it is a ValueError.

        Image scores are the maxima of the maps, these the statistic (for ``ace`` the cosine with the
        signature, in [-1, 1]).
        """
        if not self.fitted.stages("mean"):
            raise ValueError("PadimAce: expected a fitted model, found none; call fit or load a checkpoint")
        product, signature = self.fitted.product(self.shape), self.fitted.signature()
        centred = centre(self._embed(images), self.fitted.stages("mean"))
        length, projections = product.measure(centred, signature)
        (samples,) = self.fitted.stages("samples")
        target = (projections[0][..., 0], signature[0].energy[:, :1]) if signature else (None, None)
        scores = patch_scores(self.detector, target[0], length, target[1], samples)
        smooth = anomaly_map(self.embedder.to_raster(scores), self.smoothing_r, self.smoothing_c)
        if self.detector.bounded:
            smooth = smooth.clamp(-1, 1)
        scored = Scored(image_score(smooth), smooth.unsqueeze(1))
        if not self.classes:
            return scored
        (offsets,), nearest = self.fitted.stages("class_offset"), projections[0][..., 1:]
        of_classes = class_scores(nearest, length, samples, offsets)
        class_map = self.embedder.to_raster(of_classes.argmax(-1))
        return scored._replace(pred_class=image_class(of_classes, length), class_map=class_map)

    def _embed(self, images: Images) -> Embedding:
        size = tuple(images.shape[-2:])
        if size != self.embedder.image_size:
            rows, columns = self.embedder.image_size
            raise ValueError(f"images: expected {rows} x {columns} pixels, found {size[0]} x {size[1]}")
        embedding = self.embedder.embed(images, self.normalise, self.precision)
        stages = [getattr(self, f"subset{level}") for level in range(len(self.embedder.sizes))]
        chosen = FeatureSubset(stages, self.embedder.sar).select(embedding)
        return narrow(chosen, self.kept)

    def get_extra_state(self) -> dict[str, Any]:
        """What decides the scores and is no tensor, as plain data."""
        backbone = self.embedder.backbone
        return asdict(self.detector) | {
            "precision": self.precision,
            "backbone": backbone.name,
            "layers": list(backbone.layers),
            "image_size": list(self.embedder.image_size),
            "classes": self.classes,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing is left to do: the shapes of tensors depend on it, so it is taken before them."""

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Become the model that the state is of."""
        if (state := state_dict.get(f"{prefix}_extra_state")) is not None:
            self._become(state, state_dict[f"{prefix}index"])
        start = f"{prefix}fitted."
        fitted = {key[len(start) :]: tensor for key, tensor in state_dict.items() if key.startswith(start)}
        self.fitted.expect(fitted, self.index.device)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _become(self, state: dict[str, Any], index: Tensor) -> None:
        """Take the arguments of the model that a state is of, and say in one line which of them are new."""
        mine = self.get_extra_state() | {"n_features": len(self.index)}
        theirs = state | {"n_features": len(index)}
        new = [name for name in theirs if theirs[name] != mine[name]]
        backbone, image_size = self.embedder.backbone, tuple(state["image_size"])
        self.detector = Detector(**{field.name: state[field.name] for field in fields(Detector)})
        if {"backbone", "layers", "image_size"} & set(new):
            # its weights come with the state; attention windows depend on the image size
            backbone = load_backbone(state["backbone"], "random", image_size, state["layers"])
        silent = ("image_size", "classes")  # a fit's, and no arguments
        if told := [f"{name} {theirs[name]!r} for {mine[name]!r}" for name in new if name not in silent]:
            logger.warning("PadimAce: the loaded state overrides the arguments: %s.", ", ".join(told))
        self.precision, self.classes = state["precision"], state["classes"]
        self.index = index.to(self.index.device, copy=True)
        self._embed_at(backbone, image_size)


def _signature(
    model: AceModel, background: Background, product: InnerProduct, batches: Iterable[SignatureBatch]
) -> Signature:
    """The signature ready to be projected on, with those of the classes.

    Every rank of a distributed run sees all signature images, so only clutter adds up.
    """
    if not isinstance(product, Full) or not model.detector.pooled:
        mean = MeanSignature()
        for images, *_ in batches:
            mean.update(model._embed(images))
        return product.prepare(background.centre(mean.mean())), []
    pool, names, offsets = Pool([model.detector]), list[str](), list[Tensor]()
    for images, masks, classes in batches:
        if SIGNATURES[model.detector.signature].supervision == "masks" and masks is None:
            raise ValueError("masked signature: expected a mask for each anomalous image, found none")
        covered = None if masks is None else model.embedder.covered(masks)
        white = background.whiten(model._embed(images))
        pool.add(white, covered, torch.zeros(len(images), device=white[0].device))
        names += classes
    for normal in model._normals:
        pool.add_clutter(background.whiten(normal))
    if distributed():
        pool.all_gather_clutter()
    directions = pool.signatures(background.samples)[model.detector.pool].unsqueeze(0)
    if pool.learns and len(set(names)) > 1:
        model.classes = sorted(set(names))
        bags = torch.cat(pool.targets), names, torch.cat(pool.clutter)
        signatures, offset = class_signatures(*bags, background.samples)
        directions, offsets = torch.cat([directions, signatures]), [offset.float()]
    return product.prepare_whitened(as_embedding(directions, model.shape.features)), offsets


def distributed() -> bool:
    """Whether this is one of several processes of a run."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

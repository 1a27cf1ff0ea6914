"""How a batch is scored by many detectors of one seed, sharing what they have in common."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect.background import Background
from padim_ace.detect.detector import Detector
from padim_ace.detect.inner_products import Full, InnerProduct, Prepared, Shape, Signatures, inner_product
from padim_ace.detect.pyramid import Embedding, side_by_side
from padim_ace.detect.statistics import patch_scores


class Convention:
    """ACE as it is defined, with the signature measured from the background's mean; to be subclassed."""

    @property
    def normalised(self) -> bool:
        """Whether signature images are normalised as all others are."""
        return True

    def inner_product(self, background: Background, covariance: str, shape: Shape) -> InnerProduct:
        """The inner product of a covariance structure."""
        return inner_product(background, covariance, shape)

    def shares(self, covariance: str) -> Hashable:
        """Equal for conventions whose inner products of a covariance structure are the same."""
        return frozenset()

    def signature(
        self, mean: Embedding, background: Background, raster: Int[Tensor, " place"], seed: int
    ) -> Signatures:
        """What is projected on, made of the mean embedding of the signature images.

        ``raster`` says where the places of an image, row by row, are in block order; ``seed`` is the run's.
        """
        return background.centre(mean)


CENTRED = {"centred": Convention()}  #: The one convention of detectors that are as they should be


@dataclass
class SignatureSet:
    """What the signature pass found, for one seed."""

    mean: Embedding  #: Mean embedding of the anomalous images
    mean_unnormalised: Embedding | None = None  #: The same without the backbone's normalisation
    pooled: Mapping[tuple, list[Tensor]] = field(default_factory=dict)
    """Whitened signatures, the same at all places, by :attr:`Detector.space` and :attr:`Detector.pool`."""


@dataclass
class _Group:
    """Signatures prepared together."""

    prepared: Prepared
    columns: dict[int, int]  #: By the number of a detector, the column of its signature


@dataclass
class _Shared:
    """Detectors that share a background, channels and an inner product."""

    space: tuple[str, str]
    product: InnerProduct
    distances: list[int]  #: Numbers of the detectors without a signature
    groups: list[_Group]


class Scorer:
    """Scores embeddings by many detectors of one seed, sharing what they have in common."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        backgrounds: Mapping[tuple[str, str], Background],
        signatures: SignatureSet | None,
        *,
        places: tuple[int, ...],
        raster: Tensor,
        seed: int,
        conventions: Mapping[str, Convention] = CENTRED,
    ) -> None:
        """Prepare the signatures; a ValueError if a detector needs one and there are none.

        ``backgrounds`` are by :attr:`Detector.space`, ``places`` the patches of each stage, coarse to fine,
        ``raster`` is the embedder's, ``seed`` that of the feature subset.
        """
        self.detectors = list(detectors)
        self.backgrounds = backgrounds
        self._signatures = signatures
        self._conventions = conventions
        self._plan: list[_Shared] = []
        sharing: dict[tuple, list[int]] = {}
        for number, d in enumerate(self.detectors):
            key = (d.space, d.covariance, self._convention(d).shares(d.covariance))
            sharing.setdefault(key, []).append(number)
        for (space, covariance, _), numbers in sharing.items():
            targeted = {n: self.detectors[n] for n in numbers if self.detectors[n].has_signature}
            if targeted and signatures is None:
                name = self.detectors[min(targeted)].statistic
                raise ValueError(f"{name}: expected a target signature, found none; give anomalous images")
            convention = self._convention(self.detectors[numbers[0]])
            features = tuple(mean.shape[-1] for mean in backgrounds[space].mean)
            product = convention.inner_product(backgrounds[space], covariance, Shape(places, features))
            groups = list(self._prepared(targeted, product, raster, seed))
            self._plan.append(_Shared(space, product, [n for n in numbers if n not in targeted], groups))

    def _convention(self, detector: Detector) -> Convention:
        return self._conventions[detector.convention] if detector.has_signature else CENTRED["centred"]

    def _prepared(
        self, detectors: Mapping[int, Detector], product: InnerProduct, raster: Tensor, seed: int
    ) -> Iterator[_Group]:
        """Signatures prepared together where they have the same form: one for all places, an embedding, or
        one that differs at every place of the finest grid.

        A signature that several detectors use is prepared once.
        """
        pools = {n: (*d.space, *d.pool) for n, d in detectors.items() if d.pooled}
        if pools:
            assert isinstance(product, Full) and self._signatures is not None
            parts = {pool: self._signatures.pooled[pool] for pool in pools.values()}
            prepared = product.prepare_whitened(side_by_side([*parts.values()]))
            columns = {pool: column for column, pool in enumerate(parts)}
            yield _Group(prepared, {n: columns[pool] for n, pool in pools.items()})
        means = {n: self._mean(d, raster, seed) for n, d in detectors.items() if not d.pooled}
        plain = {n: mean for n, mean in means.items() if not isinstance(mean, Tensor)}
        fine = {n: mean for n, mean in means.items() if isinstance(mean, Tensor)}
        if plain:
            prepared = product.prepare(side_by_side([*plain.values()]))
            yield _Group(prepared, {n: column for column, n in enumerate(plain)})
        if fine:
            prepared = product.prepare(torch.cat([*fine.values()], -1))
            yield _Group(prepared, {n: column for column, n in enumerate(fine)})

    def _mean(self, detector: Detector, raster: Tensor, seed: int) -> Embedding | Tensor:
        """The mean signature of a detector, as its convention has it."""
        assert self._signatures is not None
        convention = self._convention(detector)
        mean = self._signatures.mean if convention.normalised else self._signatures.mean_unnormalised
        assert mean is not None
        background = self.backgrounds[detector.space]
        return convention.signature(background.narrow(mean), background, raster, seed)

    def score(self, embedding: Embedding) -> Float[Tensor, "detector place image"]:
        """Patch scores of every detector, places in block order."""
        scores: list[Tensor] = [torch.empty(0)] * len(self.detectors)
        used = {shared.space: self.backgrounds[shared.space] for shared in self._plan}
        centred = {space: of.centre(of.narrow(embedding)) for space, of in used.items()}
        for shared in self._plan:
            energy, projections = shared.product.measure(
                centred[shared.space], [group.prepared for group in shared.groups]
            )
            samples = self.backgrounds[shared.space].samples
            for number in shared.distances:
                scores[number] = patch_scores(self.detectors[number], None, energy, None, samples)
            for group, projection in zip(shared.groups, projections, strict=True):
                for number, column in group.columns.items():
                    detector = self.detectors[number]
                    length = group.prepared.energy[:, column, None]
                    scores[number] = patch_scores(detector, projection[..., column], energy, length, samples)
        return torch.stack(scores)

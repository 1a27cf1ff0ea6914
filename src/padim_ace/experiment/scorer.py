"""How a batch is scored by many detectors of one seed, sharing what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.background import Background
from padim_ace.detect.inner_products import (
    Full,
    InnerProduct,
    Prepared,
    Shape,
    Weighted,
    WrongWay,
    isotropic,
    precision_diagonal,
)
from padim_ace.detect.pyramid import Embedding, flatten, side_by_side
from padim_ace.detect.statistics import ace, glrt, mahalanobis, matched_filter
from padim_ace.experiment.detectors import Detector
from padim_ace.paper.published_code import scramble


@dataclass
class SignatureSet:
    """What the signature pass found, for one seed."""

    mean: Embedding
    """Mean embedding of the anomalous images."""
    mean_unnormalised: Embedding | None = None
    """The same without the backbone's normalisation (deviation D4)."""
    pooled: Mapping[tuple[str, str], Embedding] = field(default_factory=dict)
    """Whitened signatures, the same at all places, by (:attr:`Detector.pool`, background)."""


class Scorer:
    """Scores embeddings by many detectors of one seed, sharing what they have in common."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        backgrounds: Mapping[str, Background],
        signatures: SignatureSet | None,
        shape: Shape,
        raster: Tensor,
        seed: int,
    ) -> None:
        """Prepare the signatures.

        Args:
            detectors: in the order of the scores.
            backgrounds: by kind.
            signatures: for all but PaDiM.
            shape: of the embeddings.
            raster: :attr:`padim_ace.detect.embedding.Embedder.raster`.
            seed: of the feature subset (deviation D3 depends on the order in which it is drawn).
        """
        self.detectors = list(detectors)
        self.backgrounds = backgrounds
        self._plan: list[_Shared] = []
        sharing: dict[tuple, list[int]] = {}
        for number, detector in enumerate(self.detectors):
            # D1, D2 and D6 change an isotropic variance only, and ACE does not depend on it
            relevant = {"full": {"D1"}, "diagonal": {"D1", "D2"}, "isotropic": set()}[detector.covariance]
            wrong = detector.deviations & relevant
            key = (detector.background, detector.covariance, detector.aggregation, wrong)
            sharing.setdefault(key, []).append(number)
        for (kind, covariance, aggregation, wrong), numbers in sharing.items():
            product = inner_product(backgrounds[kind], covariance, aggregation, wrong, shape)
            with_signature = [n for n in numbers if self.detectors[n].statistic != "padim"]
            if with_signature and signatures is None:
                name = self.detectors[with_signature[0]].name
                raise ValueError(f"{name}: expected a target signature, found none; give anomalous images")
            background = backgrounds[kind]
            groups = list(
                _prepared(with_signature, self.detectors, product, background, signatures, raster, seed)
            )
            distances = [n for n in numbers if n not in with_signature]
            self._plan.append(_Shared(kind, product, distances, groups))

    def score(self, embedding: Embedding) -> Float[Tensor, "detector place image"]:
        """Patch scores of every detector, places in block order."""
        scores: list[Tensor] = [torch.empty(0)] * len(self.detectors)
        kinds = {shared.background for shared in self._plan}
        centred = {kind: self.backgrounds[kind].centre(embedding) for kind in kinds}
        for shared in self._plan:
            energy, projections = shared.product.measure(
                centred[shared.background], [group.prepared for group in shared.groups]
            )
            for number in shared.distances:
                scores[number] = mahalanobis(energy)
            samples = self.backgrounds[shared.background].samples
            for group, projection in zip(shared.groups, projections, strict=True):
                for number, column in zip(group.numbers, group.columns, strict=True):
                    detector = self.detectors[number]
                    along = projection[..., column : column + detector.dimensions]
                    length = group.prepared.energy[:, column, None]
                    scores[number] = patch_scores(detector, along, energy, length, samples)
        return torch.stack(scores)


@dataclass
class _Group:
    """Detectors whose signatures are prepared together."""

    numbers: list[int]
    columns: list[int]
    """The first direction of each among those prepared."""
    prepared: Prepared


@dataclass
class _Shared:
    """Detectors that share a background and an inner product."""

    background: str
    product: InnerProduct
    distances: list[int]
    """Numbers of the detectors without a signature."""
    groups: list[_Group]


def patch_scores(
    detector: Detector,
    projections: Float[Tensor, "place image direction"],
    energy: Float[Tensor, "place image"],
    signature_energy: Float[Tensor, "_place 1"],
    samples: float | Tensor,
) -> Float[Tensor, "place image"]:
    """A detector's scores from the projections on its signature's directions.

    A subspace's directions are orthonormal: the length of the projection on their span takes the place of
    that on one direction, whose sign would mean nothing.

    Args:
        detector: any but PaDiM.
        projections: on each direction of its signature.
        energy: of the embeddings.
        signature_energy: of one direction.
        samples: that the covariance was estimated from.
    """
    spans = detector.family == "subspace"
    along = projections.square().sum(-1).sqrt() if spans else projections[..., 0]
    if detector.statistic == "ace":
        return ace(along, energy, signature_energy)
    if detector.statistic == "glrt":
        return glrt(along, energy, signature_energy, samples)
    return matched_filter(along, signature_energy)


def inner_product(
    background: Background, covariance: str, aggregation: str, wrong: frozenset[str], shape: Shape
) -> InnerProduct:
    """The inner product of a covariance structure, with deviations D1 and D2 if among ``wrong``."""
    if covariance == "full":
        return WrongWay(background, shape) if "D1" in wrong else Full(background, shape)
    if covariance == "isotropic":
        return isotropic(background, aggregation, shape)
    if "D2" in wrong:
        precision = precision_diagonal(background, shape.places[-1])
        return Weighted(1 / precision if "D1" in wrong else precision, shape)
    variances = background.variances()
    return Weighted([v.clone() if "D1" in wrong else 1 / v for v in variances], shape)


def _prepared(
    numbers: Sequence[int],
    detectors: Sequence[Detector],
    product: InnerProduct,
    background: Background,
    signatures: SignatureSet | None,
    raster: Tensor,
    seed: int,
) -> Iterator[_Group]:
    """Signatures prepared together where they have the same form: per place, scrambled, or one for all
    places.

    A signature that several detectors use is prepared once.
    """
    if not numbers:
        return
    assert signatures is not None
    pooled = [n for n in numbers if detectors[n].pooled]
    scrambled = [n for n in numbers if "D3" in detectors[n].deviations]
    plain = [n for n in numbers if n not in pooled and n not in scrambled]
    if pooled:
        assert isinstance(product, Full)
        pools = {(detectors[n].pool, detectors[n].background): 0 for n in pooled}
        parts = [signatures.pooled[pool] for pool in pools]
        end = 0
        for pool, part in zip(pools, parts, strict=True):
            pools[pool] = end
            end += part[0].shape[1]
        columns = [pools[detectors[n].pool, detectors[n].background] for n in pooled]
        yield _Group(pooled, columns, product.prepare_whitened(side_by_side(parts)))
    if plain:
        parts = [_mean(detectors[n], background, signatures) for n in plain]
        yield _Group(plain, list(range(len(plain))), product.prepare(side_by_side(parts)))
    if scrambled:
        fine = []
        for n in scrambled:
            found = scramble(flatten(_mean_image(detectors[n], signatures))[:, 0], raster, seed)
            if "D5" not in detectors[n].deviations:
                found = found - flatten([m.unsqueeze(1) for m in background.mean])[:, 0]
            fine.append(found)
        yield _Group(scrambled, list(range(len(scrambled))), product.prepare(torch.stack(fine, -1)))


def _mean_image(detector: Detector, signatures: SignatureSet) -> Embedding:
    if "D4" not in detector.deviations:
        return signatures.mean
    assert signatures.mean_unnormalised is not None
    return signatures.mean_unnormalised


def _mean(detector: Detector, background: Background, signatures: SignatureSet) -> Embedding:
    mean = _mean_image(detector, signatures)
    return mean if "D5" in detector.deviations else background.centre(mean)

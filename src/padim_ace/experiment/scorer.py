"""How a batch is scored by many detectors of one seed, sharing what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.background import Background
from padim_ace.detect.detector import Detector
from padim_ace.detect.inner_products import Full, InnerProduct, Prepared, Shape
from padim_ace.detect.pyramid import Embedding, side_by_side
from padim_ace.detect.statistics import patch_scores
from padim_ace.experiment.convention import CENTRED, Convention


@dataclass
class SignatureSet:
    """What the signature pass found, for one seed."""

    mean: Embedding
    """Mean embedding of the anomalous images."""
    mean_unnormalised: Embedding | None = None
    """The same without the backbone's normalisation."""
    pooled: Mapping[tuple, Embedding] = field(default_factory=dict)
    """Whitened signatures, the same at all places, by background and :attr:`Detector.pool`."""


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
        conventions: Mapping[str, Convention] = CENTRED,
    ) -> None:
        """Prepare the signatures; ``raster`` is the embedder's, ``seed`` that of the feature subset.

        Raises:
            ValueError: if a detector needs a signature and there is none.
        """
        self.detectors = list(detectors)
        self.backgrounds = backgrounds
        self._signatures = signatures
        self._conventions = conventions
        self._plan: list[_Shared] = []
        sharing: dict[tuple, list[int]] = {}
        for number, d in enumerate(self.detectors):
            key = (d.background, d.covariance, self._convention(d).shares(d.covariance))
            sharing.setdefault(key, []).append(number)
        for (kind, covariance, _), numbers in sharing.items():
            with_signature = [n for n in numbers if self.detectors[n].has_signature]
            if with_signature and signatures is None:
                name = self.detectors[with_signature[0]].statistic
                raise ValueError(f"{name}: expected a target signature, found none; give anomalous images")
            convention = self._convention(self.detectors[numbers[0]])
            product = convention.inner_product(backgrounds[kind], covariance, shape)
            groups = list(self._prepared(with_signature, product, raster, seed))
            distances = [n for n in numbers if n not in with_signature]
            self._plan.append(_Shared(kind, product, distances, groups))

    def _convention(self, detector: Detector) -> Convention:
        return self._conventions[detector.convention] if detector.has_signature else CENTRED["centred"]

    def _prepared(
        self, numbers: Sequence[int], product: InnerProduct, raster: Tensor, seed: int
    ) -> Iterator[_Group]:
        """Signatures prepared together where they have the same form: one for all places, an embedding, or
        one that differs at every place of the finest grid.

        A signature that several detectors use is prepared once.
        """
        signatures = self._signatures
        if not numbers:
            return
        assert signatures is not None
        pooled = [n for n in numbers if self.detectors[n].pooled]
        if pooled:
            assert isinstance(product, Full)
            pools = {(self.detectors[n].background, *self.detectors[n].pool): 0 for n in pooled}
            parts = [signatures.pooled[pool] for pool in pools]
            end = 0
            for pool, part in zip(pools, parts, strict=True):
                pools[pool] = end
                end += part[0].shape[1]
            columns = [pools[self.detectors[n].background, *self.detectors[n].pool] for n in pooled]
            yield _Group(pooled, columns, product.prepare_whitened(side_by_side(parts)))
        made = {n: self._mean(self.detectors[n], raster, seed) for n in numbers if n not in pooled}
        plain = {n: signature for n, signature in made.items() if not isinstance(signature, Tensor)}
        if plain:
            yield _Group([*plain], [*range(len(plain))], product.prepare(side_by_side([*plain.values()])))
        fine = {n: signature for n, signature in made.items() if isinstance(signature, Tensor)}
        if fine:
            yield _Group([*fine], [*range(len(fine))], product.prepare(torch.cat([*fine.values()], -1)))

    def _mean(self, detector: Detector, raster: Tensor, seed: int) -> Embedding | Tensor:
        """The mean signature of a detector, as its convention has it."""
        assert self._signatures is not None
        convention = self._convention(detector)
        mean = self._signatures.mean if convention.normalised else self._signatures.mean_unnormalised
        assert mean is not None
        return convention.signature(mean, self.backgrounds[detector.background], raster, seed)

    def score(self, embedding: Embedding) -> Float[Tensor, "detector place image"]:
        """Patch scores of every detector, places in block order."""
        scores: list[Tensor] = [torch.empty(0)] * len(self.detectors)
        kinds = {shared.background for shared in self._plan}
        centred = {kind: self.backgrounds[kind].centre(embedding) for kind in kinds}
        for shared in self._plan:
            energy, projections = shared.product.measure(
                centred[shared.background], [group.prepared for group in shared.groups]
            )
            samples = self.backgrounds[shared.background].samples
            for number in shared.distances:
                scores[number] = patch_scores(self.detectors[number], None, energy, None, samples)
            for group, projection in zip(shared.groups, projections, strict=True):
                for number, column in zip(group.numbers, group.columns, strict=True):
                    detector = self.detectors[number]
                    along = projection[..., column : column + detector.spanned]
                    length = group.prepared.energy[:, column, None]
                    scores[number] = patch_scores(detector, along, energy, length, samples)
        return torch.stack(scores)

"""Linear algebra on a feature pyramid, without copying coarse features to the finest grid.

PaDiM's embedding of a patch is its own fine-stage features beside the *same* coarse features as its
neighbours: nearest upsampling repeats them. A covariance, its Cholesky factor and a whitened embedding
therefore repeat in the same way. Here every stage keeps its own number of patches, and the work falls
to about a fifth (ResNet-18, 100 features: 9.1 M instead of 41 M multiply-adds an image), exactly.

Conventions
-----------
An **embedding** is a list of stages, coarse to fine, each ``[place, image, feature]``. Places are in *block
order*: the children of a place follow each other, so that upsampling is ``repeat_interleave``.
A matrix over features is a :class:`BlockRows`: for each stage, its rows' columns of the coarser stages
(``cross``) and of the stage itself (``own``). A lower triangular matrix is wholly given by these, and so
is a symmetric one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# an underscore: each stage has its own places and features
Embedding = list[Float[Tensor, "_place image _feature"]]
Energy = Float[Tensor, "place image"]


def divides(coarse: tuple[int, int], fine: tuple[int, int]) -> bool:
    """Whether each place of the grid ``coarse`` (rows, columns) covers a whole block of ``fine``."""
    return fine[0] % coarse[0] == 0 and fine[1] % coarse[1] == 0


def block_orders(sizes: Sequence[tuple[int, int]]) -> list[Int[Tensor, " _place"]]:
    """Raster index of each place in block order, for grids of (rows, columns) given coarse to fine.

    A grid that is not a whole multiple of the coarser one before it is a ValueError.
    """
    orders = [torch.arange(sizes[0][0] * sizes[0][1])]
    for coarse, fine in zip(sizes, sizes[1:], strict=False):
        if not divides(coarse, fine):
            raise ValueError(f"patch grid {fine}: expected a whole multiple of the coarser grid {coarse}")
        raster = torch.arange(fine[0] * fine[1])
        blocks = raster.view(coarse[0], fine[0] // coarse[0], coarse[1], fine[1] // coarse[1])
        orders.append(blocks.permute(0, 2, 1, 3).reshape(coarse[0] * coarse[1], -1)[orders[-1]].flatten())
    return orders


def upsample(coarse: Tensor, places: int) -> Tensor:
    """Repeat ``[place, ...]`` for the children of each place, up to ``places`` of them."""
    factor = places // coarse.shape[0]
    if factor == 1:
        return coarse
    return coarse.unsqueeze(1).expand(-1, factor, *coarse.shape[1:]).flatten(0, 1)


def group_children(stage: Float[Tensor, "place image feature"], parents: int) -> Tensor:
    """``[parent · child, image, feature]`` to ``[parent, image, child · feature]``."""
    return stage.unflatten(0, (parents, -1)).transpose(1, 2).flatten(2)


def ungroup_children(grouped: Tensor, features: int) -> Float[Tensor, "place image feature"]:
    """Inverse of :func:`group_children`."""
    return grouped.unflatten(2, (-1, features)).transpose(1, 2).flatten(0, 1)


def contexts(embedding: Embedding) -> list[Tensor]:
    """For each stage but the finest: its features beside those of all coarser stages.

    Shapes ``[place of the stage, image, feature of stages up to it]``.
    """
    result: list[Tensor] = []
    for stage in embedding[:-1]:
        coarser = [upsample(result[-1], stage.shape[0])] if result else []
        result.append(torch.cat([*coarser, stage], -1))
    return result


def summed(parts: Iterable[Tensor]) -> Tensor:
    """The sum of parts ``[place, ...]``, one of each stage, at every place of the finest grid."""
    first, *finer = parts
    for part in finer:
        first = part + upsample(first, part.shape[0])
    return first


def flatten(embedding: Embedding) -> Float[Tensor, "place image feature"]:
    """PaDiM's embedding: all features, coarse to fine, at every place of the finest grid."""
    places = embedding[-1].shape[0]
    return torch.cat([upsample(stage, places) for stage in embedding], -1)


def side_by_side(embeddings: Sequence[list[Tensor]]) -> list[Tensor]:
    """The images of several embeddings in one, laid out as ``Embedder`` does: image after image."""
    return [
        torch.cat([stage.transpose(0, 1) for stage in stages]).transpose(0, 1)
        for stages in zip(*embeddings, strict=True)
    ]


def narrow(
    embedding: list[Float[Tensor, "... _feature"]], kept: Int[Tensor, " kept"] | None
) -> list[Float[Tensor, "... _feature"]]:
    """An embedding, or a mean, of only the ``kept`` features of the finest stage; of all, if None."""
    return embedding if kept is None else [*embedding[:-1], embedding[-1].index_select(-1, kept)]


@dataclass
class BlockRows:
    """Rows of a symmetric or lower triangular matrix over the features, at every place.

    ``own[l]`` is ``[place of stage l, feature of l, feature of l]``. ``cross[l]`` is ``[place of stage l-1,
    child · feature of l, feature of stages before l]``; ``cross[0]`` is empty. A matrix that all places share
    has one place at each stage and, in ``cross``, one child.
    """

    cross: list[Tensor]
    own: list[Tensor]

    def map(self, function: Callable[[Tensor], Tensor]) -> "BlockRows":
        """A function of every block."""
        return BlockRows([function(block) for block in self.cross], [function(block) for block in self.own])

    def narrow(self, kept: Int[Tensor, " kept"]) -> "BlockRows":
        """Only the rows and columns of the ``kept`` features of the finest stage."""
        own = self.own[-1].index_select(1, kept).index_select(2, kept)
        cross = self.cross[-1]
        if cross.numel():
            grouped = cross.unflatten(1, (-1, self.own[-1].shape[1]))
            cross = grouped.index_select(2, kept).flatten(1, 2)
        return BlockRows([*self.cross[:-1], cross], [*self.own[:-1], own])


def _cross_product(context: Tensor, cross: Tensor, places: int, features: int) -> Tensor:
    """Rows of ``cross`` applied to the coarser context, ``[place, image, feature]`` at the finer stage."""
    if cross.shape[0] == 1 and cross.shape[1] == features:
        return upsample(torch.matmul(context, cross[0].mT), places)
    return ungroup_children(torch.matmul(context, cross.mT), features)


def lower_product(rows: BlockRows, embedding: Embedding, below: float = 1) -> Embedding:
    """``W x`` for a lower triangular ``W``: whitening, when ``W`` is the inverse Cholesky factor.

    The products of different stages count ``below`` times.
    """
    coarser = [None, *contexts(embedding)]
    result = []
    for stage, context, cross, own in zip(embedding, coarser, rows.cross, rows.own, strict=True):
        product = torch.matmul(stage, own[0].mT if own.shape[0] == 1 else own.mT)
        if context is not None:
            off = _cross_product(context, cross, stage.shape[0], stage.shape[-1])
            product = torch.add(product, off, alpha=below)
        result.append(product)
    return result


def quadratic_form(rows: BlockRows, embedding: Embedding) -> Energy:
    """``xᵀ M x`` for a symmetric ``M``, at every place of the finest grid."""
    products = lower_product(rows, embedding, below=2)
    return summed((x * product).sum(-1) for x, product in zip(embedding, products, strict=True))


def energy(embedding: Embedding) -> Energy:
    """``‖x‖²`` at every place of the finest grid."""
    return summed(stage.square().sum(-1) for stage in embedding)


Directions = list[Float[Tensor, "_place _feature _child signature"]]


def project(embedding: Embedding, directions: Directions) -> Float[Tensor, "place image signature"]:
    """``tᵀx`` for several ``t`` at every place of the finest grid.

    A direction has one child where it repeats as the coarse features do, or else as many children as the
    stage's places have on the finest grid. One place serves all.
    """
    parts = []
    for stage, direction in zip(embedding, directions, strict=True):
        matrix = direction.flatten(2)
        product = torch.matmul(stage, matrix[0] if matrix.shape[0] == 1 else matrix)
        parts.append(ungroup_children(product, direction.shape[-1]))
    return summed(parts)


def repeated_directions(signatures: Embedding) -> Directions:
    """Directions that repeat as coarse features do, from an embedding whose images are signatures."""
    return [stage.transpose(1, 2).unsqueeze(2) for stage in signatures]


def fine_directions(
    signatures: Float[Tensor, "place feature signature"], places: Sequence[int], features: Sequence[int]
) -> Directions:
    """Directions that differ at every place of the finest grid, cut into stages of these sizes."""
    parts = signatures.split(list(features), 1)
    return [
        part.reshape(n, -1, part.shape[1], part.shape[2]).transpose(1, 2).contiguous()
        for part, n in zip(parts, places, strict=True)
    ]


def fine_product(
    rows: BlockRows, fine: Float[Tensor, "place feature signature"], symmetric: bool
) -> Float[Tensor, "place feature signature"]:
    """A matrix, ``symmetric`` or lower triangular, times vectors that differ at every place of the finest
    grid."""
    places, _, signatures = fine.shape

    def siblings(part: Tensor, stage: int) -> Tensor:  # [place of the stage, feature, child · signature]
        return part.reshape(stage, -1, part.shape[1], signatures).transpose(1, 2).flatten(2)

    def apart(grouped: Tensor) -> Tensor:  # and back
        return grouped.unflatten(2, (-1, signatures)).transpose(1, 2).reshape(places, -1, signatures)

    result = torch.zeros_like(fine)
    before = 0
    for cross, own in zip(rows.cross, rows.own, strict=True):
        stage, features = own.shape[:2]
        here = siblings(fine[:, before : before + features], stage)
        result[:, before : before + features] += apart(own @ here)
        if before:
            block = cross.reshape(stage, features, before)
            result[:, before : before + features] += apart(block @ siblings(fine[:, :before], stage))
            if symmetric:
                result[:, :before] += apart(block.mT @ here)
        before += features
    return result


def column_energy(rows: BlockRows, places: int) -> Float[Tensor, "place feature"]:
    """Squared lengths of a matrix's columns, at ``places`` places of the finest grid: of the whitening, the
    diagonal of Σ⁻¹."""
    parts: list[Tensor] = []
    for cross, own in zip(rows.cross, rows.own, strict=True):
        stage, features = own.shape[:2]
        if parts:
            before = cross.shape[-1]
            above = cross.reshape(stage, features, before).square().sum(1)
            parts = [torch.cat([upsample(part, stage) for part in parts], -1) + above]
        parts.append(own.square().sum(1))
    return torch.cat([upsample(part, places) for part in parts], -1)


def inverse_cholesky(covariance: BlockRows) -> BlockRows:
    """Rows of ``W = L⁻¹``, where ``Σ = L Lᵀ``: then ``Σ⁻¹ = Wᵀ W`` and ``W (x - μ)`` is white.

    Stage by stage, with V the factor of the coarser stages, A = ``cross``, B = ``own``: G = A Vᵀ, C the
    Cholesky factor of the Schur complement B - G Gᵀ, and the rows are C⁻¹ [-G V, I].

    Raises:
        torch.linalg.LinAlgError: if a covariance is not positive definite.
    """
    result = BlockRows([], [])
    factor: Tensor | None = None  # [place, feature, feature] of all stages so far
    for cross, own in zip(covariance.cross, covariance.own, strict=True):
        places, features = own.shape[:2]
        identity = torch.eye(features, dtype=own.dtype, device=own.device)
        if factor is None:
            block = torch.linalg.solve_triangular(torch.linalg.cholesky(own), identity, upper=False)
            result.cross.append(cross)
            result.own.append(block)
            factor = block
            continue
        parents, before = factor.shape[:2]
        projected = torch.matmul(cross.reshape(parents, -1, before), factor.mT)  # G, children grouped
        g = projected.reshape(places, features, before)
        inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(own - g @ g.mT), identity, upper=False)
        gv = torch.matmul(projected, factor).reshape(places, features, before)
        rows = -inverse @ gv
        result.cross.append(rows.reshape(cross.shape))
        result.own.append(inverse)
        if len(result.own) < len(covariance.own):
            upper = torch.cat([upsample(factor, places), factor.new_zeros(places, before, features)], -1)
            factor = torch.cat([upper, torch.cat([rows, inverse], -1)], 1)
    return result


def empty_products(embedding: Embedding) -> BlockRows:
    """Zeros of the shape that :func:`add_products` fills, in float64."""
    rows = BlockRows([], [])
    before = parents = 0
    for stage in embedding:
        places, _, features = stage.shape
        children = places // parents if parents else 0
        rows.cross.append(stage.new_zeros(parents, children * features, before, dtype=torch.float64))
        rows.own.append(stage.new_zeros(places, features, features, dtype=torch.float64))
        before, parents = before + features, places
    return rows


def add_products(rows: BlockRows, embedding: Embedding, alpha: float = 1) -> None:
    """Add ``alpha · Σ_images x xᵀ``, in the precision of the embedding, to ``rows``, in place."""
    for level, (stage, context) in enumerate(zip(embedding, [None, *contexts(embedding)], strict=True)):
        rows.own[level].add_(stage.mT @ stage, alpha=alpha)
        if context is not None:
            grouped = group_children(stage, context.shape[0])
            rows.cross[level].add_(grouped.mT @ context, alpha=alpha)

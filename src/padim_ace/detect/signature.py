"""Target signatures: what an anomalous patch looks like, measured from the background.

- :class:`MeanSignature`: the mean embedding of anomalous images at every place (the paper's).
- All others are *pooled*: one direction for all places, in the space that the background whitens.
  ``masked`` is the mean of the patches under masks. The rest know which images are anomalous and no more:
  an anomalous image is a *bag* of patches of which some are targets, a normal image one of which none is.
  Their *candidates* are the :data:`CANDIDATES` patches of each image that are farthest from the background:
  the targets are among them, and in normal images the clutter that is most easily taken for targets.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from padim_ace.detect.detector import Detector
from padim_ace.detect.pyramid import Embedding, Energy, energy
from padim_ace.detect.registry import SIGNATURES

CANDIDATES = 16  #: Patches of each image that may be targets, or be taken for them
PENALTY = 1e-3  #: Weight of the squared length in :func:`lace`: few images stay close to their mean
STARTS = 64  #: Images whose farthest patch :func:`miace` tries as its start
ROUNDS = 100  #: At most so many steps of an optimiser; signatures are found in 10 to 60

Direction = Float[Tensor, " feature"]
Bags = Float[Tensor, "_image patch feature"]


class MeanSignature:
    """Mean embedding at every place, streamed."""

    def __init__(self) -> None:
        self.count = 0
        self._total: list[Tensor] = []

    def update(self, embedding: Embedding) -> None:
        """Add a batch of anomalous embeddings."""
        sums = [stage.double().sum(1) for stage in embedding]
        self._total = [t + s for t, s in zip(self._total, sums, strict=True)] if self._total else sums
        self.count += embedding[0].shape[1]

    def mean(self) -> Embedding:
        """The mean embedding, as an embedding of one image; a ValueError if none was added."""
        require_targets(self.count)
        return [(total / self.count).float().unsqueeze(1) for total in self._total]


def candidates(white: Embedding, energy: Energy) -> Bags:
    """The whitened patches of each image that are farthest from the background, farthest first.

    ``energy`` is their squared length. Images of fewer patches are a ValueError.
    """
    places = energy.shape[0]
    require_candidates(places)
    at = energy.topk(CANDIDATES, 0).indices
    parts = []
    for stage in white:
        index = (at // (places // stage.shape[0])).unsqueeze(-1).expand(-1, -1, stage.shape[-1])
        parts.append(stage.gather(0, index))
    return torch.cat(parts, -1).transpose(0, 1)


def covered_sum(white: Embedding, energy: Energy, weights: Energy) -> Direction:
    """``Σ w y / ‖y‖`` over all places and images, in float64; ``energy`` is ``‖y‖²``."""
    scaled = weights.double() / energy.clamp_min(torch.finfo(energy.dtype).tiny).sqrt()
    sums = []
    for stage in white:
        places, images, features = stage.shape
        of_place = scaled.view(places, -1, images).sum(1)
        sums.append(of_place.flatten() @ stage.reshape(-1, features).double())
    return torch.cat(sums)


def miace(targets: Bags, clutter: Bags, samples: int) -> Direction:
    r"""Multiple-instance ACE (Zare, Jiao and Glenn 2018): the direction nearest to one patch of each bag.

    Maximises :math:`J(s) = \langle \max_i s^\top \hat y_{ji} \rangle_j - s^\top \bar n` over directions of
    unit length, with ŷ the candidates of unit length and :math:`\bar n` the mean of the normal images'. It
    takes in turn the patch of each image that is nearest to s, and for s the mean of these less :math:`\bar
    n`, until J no longer rises. It starts from the best of the farthest patches of :data:`STARTS` images.
    """
    unit, clutter_mean = F.normalize(targets, dim=-1), F.normalize(clutter, dim=-1).mean((0, 1))

    def objective(directions: Float[Tensor, "direction feature"]) -> Float[Tensor, " direction"]:
        best = torch.stack([(unit @ direction).amax(1).mean() for direction in directions])
        return best - directions @ clutter_mean

    starts = unit[:: -(-len(unit) // STARTS), 0]
    found = starts[objective(starts).argmax()]
    reached = -torch.inf
    for _ in range(ROUNDS):
        nearest = (unit @ found).argmax(1)
        moved = F.normalize(unit[torch.arange(len(unit)), nearest].mean(0) - clutter_mean, dim=0)
        risen = float(objective(moved[None]))
        if risen <= reached:
            break
        found, reached = moved, risen
    return found


def lace(targets: Bags, clutter: Bags, samples: int) -> Direction:
    r"""The direction by which the best patch of each image tells anomalous images from normal ones.

    Logistic regression on bags, in the manner of LACE (Peeples et al. 2022) on a known background:
    minimises over w and b the mean loss :math:`\log(1 + e^{\mp (\max_i w^\top \phi_i + b)})`, anomalous and
    normal images of equal weight, plus :data:`PENALTY` :math:`\lVert w \rVert^2 / 2`. The features
    :math:`\phi = y / \sqrt{N + E}` are those whose projection is Kelly's statistic. With one patch in each
    bag it is logistic regression. It starts from MI-ACE.
    """
    energy = targets.square().sum(-1, True), clutter.square().sum(-1, True)
    bags = [y / (samples + e).sqrt() for y, e in zip((targets, clutter), energy, strict=True)]
    return _regression(bags[0], bags[1], 5 * miace(targets, clutter, samples))


def logistic(targets: Bags, clutter: Bags, samples: int) -> Direction:
    r"""Logistic regression of the candidates, each with its image's label, on :math:`y / \sqrt N`."""
    bags = [y.flatten(0, 1).unsqueeze(1) / samples**0.5 for y in (targets, clutter)]
    return _regression(bags[0], bags[1], torch.zeros_like(targets[0, 0]))


def _regression(targets: Bags, clutter: Bags, start: Direction) -> Direction:
    """The weights of the regression of :func:`lace`, as a direction of unit length."""
    with torch.inference_mode(False), torch.enable_grad():
        targets, clutter, weights = targets.clone(), clutter.clone(), start.clone().requires_grad_()
        bias = torch.zeros_like(weights[0]).requires_grad_()

        def loss() -> Tensor:
            of_targets, of_clutter = ((bags @ weights).amax(1) + bias for bags in (targets, clutter))
            loss = (F.softplus(-of_targets).mean() + F.softplus(of_clutter).mean()) / 2
            return loss + PENALTY / 2 * weights.square().sum()

        minimise(loss, [weights, bias], max_iter=ROUNDS, tolerance_grad=1e-8)
    return F.normalize(weights.detach(), dim=0)


def minimise(loss: Callable[[], Tensor], parameters: list[Tensor], **options: Any) -> None:
    """Bring the parameters to where their loss is smallest, by L-BFGS."""
    optimiser = torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe", **options)

    def closure() -> Tensor:
        optimiser.zero_grad()
        found = loss()
        found.backward()
        return found

    optimiser.step(closure)


def learn(name: str, targets: Bags, clutter: Bags, samples: int) -> Direction:
    """The pooled signature of this name, from labels of images alone, of unit length in float64.

    ``targets`` and ``clutter`` are candidates of anomalous and of normal images, ``samples`` the embeddings
    that the background was estimated from.

    Raises:
        ValueError: if there are no targets, or no clutter.
    """
    require_targets(len(targets))
    if not len(clutter):
        raise ValueError("clutter: expected normal images, found none; fit on normal images first")
    return globals()[name](targets.double(), clutter.double(), samples)


def as_embedding(directions: Float[Tensor, "*signature feature"], features: Sequence[int]) -> Embedding:
    """Directions, the same at all places, as the stages ``[1, signature, feature]`` of an embedding."""
    return [part.float().reshape(1, -1, part.shape[-1]) for part in directions.split(list(features), -1)]


def require_candidates(places: int) -> None:
    """Raise a ValueError, if images of so many places have too few."""
    if places < CANDIDATES:
        raise ValueError(f"images: expected {CANDIDATES} patches or more, found {places}; give larger images")


def require_targets(weight: float | Tensor) -> None:
    """Raise a ValueError, where a signature would be of nothing."""
    if not weight > 0:
        raise ValueError(
            "target signature: expected anomalous images with targets, found none; add anomalous images"
        )


class Pool:
    """The pooled signatures of one draw's detectors that share a background and channels."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.wanted = {d.pool for d in detectors if d.pooled}
        """The signatures, each by :attr:`padim_ace.detect.detector.Detector.pool`."""
        self.masked = any(SIGNATURES[name].supervision == "masks" for name, _ in self.wanted)
        """Whether masks are needed."""
        self.learns = any(SIGNATURES[name].supervision != "masks" for name, _ in self.wanted)
        """Whether :meth:`add_clutter` is to be given normal images."""
        self._order: list[Tensor] = []
        self.targets: list[Bags] = []  #: Candidates of each batch of anomalous images
        self.clutter: list[Bags] = []  #: And of normal ones
        self._covered: Tensor | float = 0.0
        self._weight: Tensor | float = 0.0

    def add(self, white: Embedding, covered: Energy | None, order: Float[Tensor, " image"]) -> None:
        """Add a batch of whitened anomalous images.

        ``covered`` is the part of each patch that a mask covers, where a signature is masked, ``order`` each
        image's place in the order in which detectors of few images are given them.
        """
        length = energy(white)
        if self.masked:
            assert covered is not None
            self._covered = self._covered + covered_sum(white, length, covered)
            self._weight = self._weight + covered.double().sum()
        if self.learns:
            self.targets.append(candidates(white, length))
            self._order.append(order)

    def add_clutter(self, white: Embedding) -> None:
        """Add a batch of whitened normal images."""
        self.clutter.append(candidates(white, energy(white)))

    def all_gather_clutter(self) -> None:
        """Make this the clutter of all ranks' normal images, by the ranks (``torch.distributed``)."""
        if self.learns:
            every: list[Tensor | None] = [None] * dist.get_world_size()
            dist.all_gather_object(every, torch.cat(self.clutter).cpu())
            self.clutter = [part.to(self.clutter[0]) for part in every if part is not None]

    def signatures(self, samples: int) -> dict[tuple, Direction]:
        """Directions by :attr:`padim_ace.detect.detector.Detector.pool`, in float64."""
        found = {}
        for name, images in sorted(self.wanted, key=str):
            if SIGNATURES[name].supervision == "masks":
                require_targets(self._weight)
                assert isinstance(self._covered, Tensor)
                found[name, images] = self._covered / self._covered.norm()
                continue
            require_targets(len(self.targets))
            targets, order = torch.cat(self.targets), torch.cat(self._order)
            if images is not None:
                targets = targets[order < images]
            clutter = torch.cat(self.clutter) if self.clutter else targets[:0]
            found[name, images] = learn(name, targets, clutter, samples)
        return found

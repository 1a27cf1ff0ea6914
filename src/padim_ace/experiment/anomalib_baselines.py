"""anomalib's own detectors on a prepared dataset, with the splits and metrics of all other detectors.

Their images go through anomalib's pre-processor, and their image scores are their own. A model is fitted by
its own training steps and scores by its own forward; only its network is exchanged for one that sees each
image once (:class:`Remembering`). Metrics are of raw scores: anomalib's post-processing clamps scores to
[0, 1], and the ties that makes change AUROC (D10).
"""

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import timm
import torch
from jaxtyping import Float
from timm.models import load_state_dict
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from padim_ace.detect.backbones import WeightsError, load_backbone
from padim_ace.experiment.baselines import BASELINES
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.embeddings import EmbeddingStore
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.protocols import PROTOCOLS, draws
from padim_ace.experiment.tally import Tally

Model = Any  #: An anomalib model. Its class is imported where it is made, for that takes ten seconds.
RESNET50 = "timm/resnet50.a1_in1k"
KERAS = "resnet50.keras_in1k"
CLIP = "timm/vit_base_patch16_plus_clip_240.laion400m_e31"
BATCH = 32  #: Images in a training step: anomalib's default


@dataclass(frozen=True)
class Peer:
    """One of anomalib's detectors that are fitted to normal images."""

    model: str  #: Its class in ``anomalib.models``
    layers: tuple[str, ...] = ("layer3",)
    arguments: Mapping[str, Any] = field(default_factory=dict)  #: Those that are not anomalib's defaults
    steps: int = 0  #: Of the optimiser, where there is one
    images: int = 2**31  #: That train at most, at equal steps: more take hours, and too much memory


PEERS = {
    "dfm": Peer("Dfm"),
    "dfm_resnet18": Peer("Dfm"),
    "fre_resnet18": Peer("Fre", arguments={"input_dim": 256 * 8 * 8}, steps=500),
    "mhpatchcore": Peer("MHPatchcore", ("layer2", "layer3"), images=500),
    "patchcore": Peer("Patchcore", ("layer2", "layer3"), {"coreset_sampling_ratio": 0.001}, images=500),
}
"""By their names in ``scores.csv``."""


def make_peer(name: str) -> Model:
    """A fresh model, its network without weights; images of 256 × 256 pixels, none of them cropped."""
    from anomalib import models
    from anomalib.models.components import AnomalibModule

    peer = PEERS[name]
    layers = {"layer": peer.layers[0]} if len(peer.layers) == 1 else {"layers": peer.layers}
    plain = {"pre_trained": False, "pre_processor": AnomalibModule.configure_pre_processor()}
    return getattr(models, peer.model)(backbone=BASELINES[name].backbone, **layers, **plain, **peer.arguments)


def load_network(backbone: str, layers: Sequence[str]) -> tuple[str, Any]:
    """A network that gives some layers, and its name. ResNet-50 has timm's weights of the hub, as anomalib's
    DFM, or where these are out of reach those that Keras ships, from the folder ``PADIM_ACE_WEIGHTS``.

    Raises:
        WeightsError: if there are no weights; it says why there are none on the hub.
    """
    if backbone != "resnet50":
        return backbone, load_backbone(backbone, layers=layers).model
    try:
        require_weights("DFM", RESNET50)
        return backbone, load_backbone(backbone, "hub", layers=layers).model
    except WeightsError:
        files = sorted(Path(os.environ.get("PADIM_ACE_WEIGHTS", "")).glob(f"{KERAS}*.safetensors"))
        if not files:
            raise
    indices = [int(layer.removeprefix("layer")) for layer in layers]
    network = timm.create_model(backbone, features_only=True, out_indices=indices)
    network.load_state_dict(load_state_dict(str(files[0])))
    network = with_first_strides(network).eval().requires_grad_(False)
    return "resnet50_keras", network.to(memory_format=torch.channels_last)


def with_first_strides(network: Any) -> Any:
    """A ResNet-50 as first published (and in Keras): where a stage halves the size, its first convolution
    does so; in timm and torchvision the second does. The tensors fit both, so nothing else would notice."""
    for stage in (network.layer2, network.layer3):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return network


def load_winclip() -> Model:
    """anomalib's zero-shot WinCLIP, prompts about an "object"; a WeightsError if it or its weights lack."""
    require_weights("WinCLIP", CLIP)
    from anomalib.models import WinClip

    try:
        model = WinClip()
    except ImportError as error:
        raise WeightsError(f"WinCLIP: expected open-clip-torch, found {error}; install it") from error
    model.setup("test")
    return model.eval()


def require_weights(model: str, repository: str) -> None:
    """Ask for a model's weights once: the models' own downloads retry for about a minute before they give up.

    If the hub's weights are neither cached nor within reach, the WeightsError has the client's own words.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        snapshot_download(repository, local_files_only=True)
    except Exception:  # not in the cache
        try:
            HfApi().model_info(repository, timeout=10)
        except Exception as error:  # the client raises many kinds; each means that there are no weights
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise WeightsError(
                f"{model}: expected weights {repository}, found none in the cache or on the hub ({said}); "
                "run with a network, or set HF_HOME to a cache that has them"
            ) from error


class Remembering(nn.Module):
    """A frozen network that sees each image once, however many models and draws ask for its maps.

    It takes the place of the network in a model's feature extractor. :meth:`show` says which images are
    asked for next, and gives the model something of an image's shape to look at.
    """

    def __init__(
        self, network: nn.Module, dataset: PreparedDataset, pre_processor: Any, pool: int, device: str
    ) -> None:
        """``pool`` is the side of the cells over which maps are averaged before they are kept."""
        super().__init__()
        self._network, self._dataset, self._pre_processor = network, dataset, pre_processor
        self._pool, self._device = pool, device
        self._store, self._rows = EmbeddingStore(len(dataset)), np.empty(0, int)
        self._shapes: list[torch.Size] = []

    def show(self, rows: np.ndarray) -> Float[Tensor, "batch 3 row column"]:
        """Stand-ins for the images of some rows of the manifest, whose maps :meth:`forward` then gives."""
        self._rows = rows
        return torch.zeros((), device=self._device).expand(len(rows), 3, 256, 256)

    def forward(self, images: Float[Tensor, "batch 3 row column"]) -> list[Tensor]:
        """The maps ``[batch, channel, row, column]`` of the images that were shown."""
        if all(row in self._store for row in self._rows.tolist()):
            kept = self._store.read(self._rows)
            shaped = zip(kept, self._shapes, strict=True)
            return [stage[0].unflatten(1, shape).to(self._device) for stage, shape in shaped]
        seen = prepared_images(self._dataset, self._rows, self._pre_processor).to(self._device)
        asked = self._network(seen.contiguous(memory_format=torch.channels_last))
        maps = [F.avg_pool2d(m, self._pool).contiguous() for m in asked]
        self._shapes = [m.shape[1:] for m in maps]
        new = np.array([row not in self._store for row in self._rows.tolist()])
        self._store.add(self._rows, [m.flatten(1)[None].cpu() for m in maps], new)
        return maps


def run_peers(
    dataset: PreparedDataset, settings: Settings, names: Sequence[str], protocols: Sequence[str]
) -> Iterator[tuple[str, str, Tally]]:
    """Some of :data:`PEERS` that take the same layers of one network, each fitted to the training normals of
    every seed under some protocols: name, backbone and results of each.

    Raises:
        WeightsError: if the network's weights are not at hand.
    """
    backbone, network = load_network(BASELINES[names[0]].backbone, PEERS[names[0]].layers)
    model = make_peer(names[0])
    pool = getattr(model.model, "pooling_kernel_size", 1)
    memory = Remembering(network.to(settings.device), dataset, model.pre_processor, pool, settings.device)
    drawn = draws(protocols, settings.seeds)
    for name in names:
        tally = Tally(dataset, drawn, [False], settings.device)
        train = [_thinned(roles == "train", PEERS[name].images) for roles in tally.roles]
        with torch.no_grad():
            wanted = np.unique(np.concatenate([*train, tally.with_role("test")]))
            for rows in _groups(wanted, BATCH, f"{backbone}, features"):
                memory(memory.show(rows))
        for number, (draw, roles) in enumerate(zip(drawn, tally.roles, strict=True)):
            torch.manual_seed(draw.seed)
            np.random.seed(draw.seed)  # noqa: NPY002 (anomalib's random projection draws from it)
            model = make_peer(name).to(settings.device)
            model.model.feature_extractor.feature_extractor = memory
            if pool > 1:  # done already
                model.model.pooling_kernel_size = 1
            fit_peer(model, memory, train[number], PEERS[name].steps)
            with torch.no_grad():
                for rows in _groups(np.flatnonzero(roles == "test"), BATCH, f"{name}, score"):
                    found = model.model(memory.show(rows))
                    maps = found.anomaly_map.reshape(len(rows), *found.anomaly_map.shape[-2:])
                    _add_resized(tally, number, rows, found.pred_score.flatten(), maps, settings)
        yield name, backbone, tally


def _thinned(chosen: np.ndarray, most: int) -> np.ndarray:
    """The rows that are chosen, at equal steps so that they are no more than ``most``."""
    rows = np.flatnonzero(chosen)
    return rows[:: math.ceil(len(rows) / most)]


def fit_peer(model: Model, memory: Remembering, train: np.ndarray, steps: int) -> None:
    """Fit by the model's own training step: so many passes over the images as it asks for, or so many steps
    of its optimiser."""
    model.train()
    optimiser = model.configure_optimizers()
    passes = model.trainer_arguments.get("max_epochs") or math.ceil(steps * BATCH / len(train))
    with torch.set_grad_enabled(optimiser is not None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are trying to `self.log")  # there is no trainer
        for _ in range(passes):
            for rows in _groups(train[torch.randperm(len(train)).numpy()], BATCH, "fit"):
                loss = model.training_step(SimpleNamespace(image=memory.show(rows)))
                if optimiser is not None:
                    optimiser.zero_grad()
                    loss["loss"].backward()
                    optimiser.step()
            if optimiser is None:
                model.fit()
    model.eval()


def run_winclip(dataset: PreparedDataset, settings: Settings, model: Model) -> Tally:
    """WinCLIP, zero-shot: no training images, so that an image's score is the same for all draws."""
    tally = Tally(dataset, draws(PROTOCOLS, settings.seeds), [False], settings.device)
    model = model.to(settings.device)
    with torch.inference_mode():
        for index in _groups(tally.with_role("test"), settings.batch_size, "WinCLIP, score"):
            images = prepared_images(dataset, index, model.pre_processor).to(settings.device)
            found = model.model(images)
            for number in range(len(tally.draws)):
                chosen = tally.members(number, index)
                if len(chosen):
                    scores, maps = found.pred_score[chosen], found.anomaly_map[chosen]
                    _add_resized(tally, number, index[chosen], scores, maps, settings)
    return tally


def prepared_images(
    dataset: PreparedDataset, index: Sequence[int] | np.ndarray, pre_processor: Any
) -> Float[Tensor, "batch 3 row column"]:
    """Images at their own size in [0, 1], three equal channels, each through a model's pre-processor."""
    sizes = dataset.manifest[["height", "width"]].to_numpy()
    images = [dataset.image(int(i), (int(sizes[i][0]), int(sizes[i][1]))) for i in index]
    return torch.stack([pre_processor.transform(image.expand(3, -1, -1)) for image in images])


def _groups(index: np.ndarray, size: int, what: str) -> Iterable[np.ndarray]:
    return tqdm(np.split(index, range(size, len(index), size)), what, unit="batch", mininterval=1)


def _add_resized(
    tally: Tally, number: int, index: np.ndarray, scores: Tensor, maps: Tensor, settings: Settings
) -> None:
    """Add images whose maps are first brought (bilinear) to the size at which all detectors are compared."""
    size = settings.image_size
    maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    truths = {}
    for level in tally.dataset.levels:
        masks = torch.stack([tally.dataset.mask(int(i), size, level) for i in index])
        truths[level] = Truth.of(masks, settings.device)
    tally.add((number, 0, "test"), index, maps, truths, scores)

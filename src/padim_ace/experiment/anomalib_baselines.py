"""anomalib's DFM and WinCLIP on a prepared dataset, with the splits and metrics of all other detectors.

Their images go through each model's own pre-processor, and their image scores are their own. Metrics are of
raw scores: anomalib's post-processing clamps scores to [0, 1], and the ties that makes change AUROC (D10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from padim_ace.detect.backbones import WeightsError
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.protocols import PROTOCOLS, draws
from padim_ace.experiment.tally import Tally

Model = Any
"""An anomalib model. Its class is imported where it is made, for that takes ten seconds."""
RESNET50 = "timm/resnet50.a1_in1k"
CLIP = "timm/vit_base_patch16_plus_clip_240.laion400m_e31"


def load_dfm(pre_trained: bool = True) -> Model:
    """anomalib's DFM with its defaults: the third layer of a ResNet-50, features pooled 4 × 4, PCA to 97 %.

    Args:
        pre_trained: whether with the hub's weights, or else with random ones.

    Raises:
        WeightsError: if the hub's weights are neither cached nor within reach.
    """
    if pre_trained:
        require_weights("DFM", RESNET50)
    from anomalib.models import Dfm

    return Dfm(pre_trained=pre_trained).eval()


def load_winclip() -> Model:
    """anomalib's zero-shot WinCLIP with its defaults, prompts about an "object".

    Raises:
        WeightsError: if open-clip-torch is not installed, or its weights are neither cached nor within reach.
    """
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

    Raises:
        WeightsError: if the hub's weights are neither cached nor within reach; it has the client's own words.
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


def run_dfm(dataset: PreparedDataset, settings: Settings, model: Model) -> Tally:
    """DFM, fitted for each draw on its training normals.

    The backbone sees each image once; its pooled features (16,384 numbers an image) are kept for all draws.
    """
    tally = Tally(dataset, draws(PROTOCOLS, settings.seeds), [False], settings.device)
    model = model.to(settings.device)
    wanted = np.union1d(tally.with_role("train"), tally.with_role("test"))
    parts = []
    with torch.inference_mode():
        for index in _groups(wanted, settings.batch_size, "DFM, features"):
            images = prepared_images(dataset, index, model.pre_processor).to(settings.device)
            part, shape = model.model.get_features(images)
            parts.append(part)
        features = torch.cat(parts)
        row = np.full(len(dataset), -1)
        row[wanted] = np.arange(len(wanted))
        for number, roles in enumerate(tally.roles):
            model.model.memory_bank = [features[row[roles == "train"]]]
            model.model.fit()
            test = np.flatnonzero(roles == "test")
            for index in _groups(test, settings.batch_size, "DFM, score"):
                scores, maps = model.model.score(features[row[index]], (len(index), *shape[1:]))
                _add_resized(tally, number, index, scores, maps[:, 0], settings)
    return tally


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


def _groups(index: np.ndarray, size: int, what: str) -> Iterator[np.ndarray]:
    with tqdm(total=len(index), desc=what, unit="image", mininterval=1) as bar:
        for start in range(0, len(index), size):
            yield index[start : start + size]
            bar.update(len(index[start : start + size]))


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

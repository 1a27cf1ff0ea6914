"""``PadimAce``: PaDiM-ACE as a model of anomalib, for its Engine, command line, exports and inferencers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import AnomalibDataModule
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.metrics import Evaluator
from anomalib.models import ALLOWED_MODULES
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import Normalize, Resize

from padim_ace.anomalib.export import ExactExport
from padim_ace.anomalib.fitting import OnePassFit
from padim_ace.anomalib.signature_images import SignatureFolder
from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.detector import RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.detect.model import AceModel
from padim_ace.detect.registry import STATISTICS, expect_one_of

PRESETS = {"paper": Detector(), "recommended": RECOMMENDED, "unsupervised": UNSUPERVISED}
"""Where the arguments that make a detector have their defaults from."""
MARGIN = 0.05  #: The part of [0, 1], at each end, for scores beyond those of the validation images

# get_model and anomalib's pipelines take class paths of these modules only
ALLOWED_MODULES.update(("padim_ace", "padim_ace.anomalib", __name__))


class AcePostProcessor(PostProcessor):
    r"""Brings scores from [-1, 1] to anomalib's [0, 1], in which 0.5 is the threshold.

    Straight lines lead from -1 to 0, from validation's smallest score to 0.05, from the threshold to 0.5,
    from validation's largest score to 0.95 and from 1 to 1; where scores are not bounded, twice the smallest
    and the largest stand for -1 and 1. Without a threshold it is 0; a smallest or largest score that is
    unknown, or not on its side of the threshold, is -1 or 1.

    anomalib's own post-processor clamps what lies beyond the scores of validation: scores tie, and AUROC
    changes. This one is strictly increasing, and so changes no ranking.

    The bounds have to be [0, 1]: anomalib's AUROC takes any batch with a score outside for logits, and ranks
    their sigmoids among the plain scores of other batches; its visualizer wraps negative values around.
    """

    @staticmethod
    def _normalize(
        preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor
    ) -> Tensor | None:
        if preds is None:
            return None
        middle = torch.where(torch.isnan(threshold), 0, threshold)
        low = torch.where(norm_min < middle, norm_min, -1)  # no comparison with NaN is true
        high = torch.where(norm_max > middle, norm_max, 1)

        def along(start: Tensor | float, end: Tensor | float) -> Tensor:  # 0 before start, 1 after end
            length = torch.as_tensor(end - start).clamp_min(1e-6)
            return ((preds - start) / length).clamp(0, 1)

        outer = along(torch.where(low < -1, 2 * low, -1), low) + along(
            high, torch.where(high > 1, 2 * high, 1)
        )
        return MARGIN * outer + (0.5 - MARGIN) * (along(low, middle) + along(middle, high))


class PadimAce(OnePassFit, ExactExport, AnomalibModule):  # type: ignore[misc]
    """PaDiM with the adaptive cosine estimator (ACE): the cosine between a patch and a target signature.

    ``PadimAce()`` is the detector of the paper, as its text describes it. This project recommends
    ``PadimAce(preset="recommended")``, which finds more: channels made for SAR beside the network's, a
    signature that is learnt from labels of images, and a statistic that allows for its error. Where there
    are no anomalous images, ``preset="unsupervised"`` is PaDiM with the SAR channels.

    Like ``Padim`` it needs one pass over normal images; unlike ``Padim`` it also needs some anomalous images,
    to know what a target looks like (its signature), and its memory does not grow with the training set.

    ``model.model(images)`` gives the statistic itself. The default post-processor brings it to
    anomalib's [0, 1], in which 0.5 is the threshold found in validation
    (:class:`padim_ace.anomalib.model.AcePostProcessor`).

    Once this class is imported, anomalib finds it by name: ``get_model("PadimAce")``, or the class path
    ``padim_ace.PadimAce`` in files for its pipelines and on its command line.

    Example:
        >>> from anomalib.data import Folder
        >>> from anomalib.engine import Engine
        >>> from padim_ace import PadimAce
        >>> datamodule = Folder("ships", "normal", root="data", abnormal_dir="anomalous", seed=0)
        >>> Engine().train(PadimAce(preset="recommended"), datamodule=datamodule)  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        n_features: int | None = None,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
        *,
        preset: str = "paper",
        statistic: str | None = None,
        background: str | None = None,
        covariance: str | None = None,
        signature: str | None = None,
        channels: str | None = None,
        smoothing: float | None = None,
        signature_images: str | Path | Dataset | None = None,
        signature_masks: str | Path | None = None,
        weights: str = "auto",
        precision: str = "float32",
        seed: int = 0,
    ) -> None:
        """Load the backbone and draw the features.

        Args:
            backbone: any timm model that gives feature maps.
            layers: timm's names of the backbone's stages to take; by default its first three of stride 4 to
                16, or those of the paper (:data:`padim_ace.detect.registry.BACKBONES`).
            pre_trained: ``False`` draws the backbone's weights at random.
            n_features: how many of the stages' channels to keep, by default 100.
            pre_processor: by default resizes to 256 x 256 (:meth:`configure_pre_processor` makes one for
                another size). The model normalises as its backbone wants it, unless the pre-processor does.
            post_processor: by default :class:`padim_ace.anomalib.model.AcePostProcessor`.
            evaluator: by default anomalib's image and pixel AUROC and F1.
            visualizer: by default anomalib's.
            preset: ``paper`` (``ace``, ``patch``, ``full``, ``mean``, ``network``, 4), ``recommended``
                (``tolerant``, ``patch``, ``full``, ``lace``, ``sar``, 2) or ``unsupervised`` (``padim``, with
                ``sar`` and 2): the defaults of the six arguments that follow.
            statistic: ``ace`` (the cosine), ``glrt`` (Kelly's, which trusts the cosine less the nearer a
                patch is to the background), ``tolerant`` (Kelly's, of a signature known up to an error),
                ``linear`` (the matched filter) or ``padim``, which needs no signature; see
                :mod:`padim_ace.detect.statistics`.
            background: ``patch`` (mean and covariance of each place, as in PaDiM) or ``shared`` (one mean and
                covariance for all places).
            covariance: ``full``, ``diagonal`` or ``isotropic``.
            signature: ``mean`` (mean embedding of the anomalous images at each place, as in the paper),
                ``masked`` (mean of their patches under masks) or, from labels of images alone, ``lace``,
                ``miace`` or ``logistic`` (:mod:`padim_ace.detect.signature`). All but ``mean`` need a full
                covariance.
            channels: ``network``, or ``sar`` for those of :mod:`padim_ace.detect.sar_channels` beside them.
            smoothing: standard deviation of the Gaussian that smooths the map, in pixels.
            signature_images: the anomalous images for the signature: a folder, a dataset of anomalib's
                ``ImageItem``, or ``None`` for those of the training set or, if it has none (that of
                anomalib's ``Folder`` never has), every second of the validation set, whose others set the
                threshold. ``None`` takes none of the test set and no synthetic ones.
            signature_masks: folder of their masks, for ``masked`` with a folder
                (:class:`padim_ace.anomalib.signature_images.SignatureFolder` says how they are named).
            weights: where the backbone's weights come from: ``auto``, ``folder`` (``PADIM_ACE_WEIGHTS``),
                ``package`` or ``hub``.
            precision: of the backbone's pass: ``float32`` or ``bfloat16``. Exported models use float32.
            seed: of the choice of channels.

        Raises:
            ValueError: for a value that is not allowed; it says which are.
            padim_ace.detect.backbones.WeightsError: if no weights of the backbone are at hand.
        """
        chosen: dict[str, Any] = {"statistic": statistic, "background": background, "covariance": covariance}
        chosen |= {"signature": signature, "channels": channels, "smoothing": smoothing}
        detector = _detector(preset, {name: value for name, value in chosen.items() if value is not None})
        source = _source(signature_images, signature_masks, detector)
        # what loggers and checkpoints keep of the arguments has to be plain data
        signature_images = str(signature_images) if isinstance(source, SignatureFolder) else None
        signature_masks = None if signature_masks is None else str(signature_masks)
        super().__init__(
            pre_processor=pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.signature_images = source
        # a tiled ensemble makes one of 10 x 10 pixels to read its metrics; fitted, it would take that size
        size = self.input_size if self.input_size and min(self.input_size) > 16 else (256, 256)
        loaded = load_backbone(backbone, weights if pre_trained else "random", size, layers)
        features = min(100, sum(loaded.channels)) if n_features is None else n_features
        self.model = AceModel(
            loaded, detector, features=features, seed=seed, image_size=size, precision=precision
        )
        # DistributedDataParallel wraps no module without a parameter to train
        self.placeholder = nn.Parameter(torch.zeros(()))
        self._agree_on_normalisation()

    def _agree_on_normalisation(self) -> None:
        transform = getattr(self.pre_processor, "transform", None)
        self.model.normalise = not extract_transforms_by_type(transform, Normalize)

    # what anomalib asks of a model

    @staticmethod
    def configure_optimizers() -> None:
        """Nothing to optimise."""

    @staticmethod
    def configure_pre_processor(image_size: Sequence[int] | None = None) -> PreProcessor:
        """Resize to ``image_size`` rows and columns, by default 256 x 256; the model itself normalises."""
        return PreProcessor(transform=Resize(image_size or (256, 256), antialias=True))

    def configure_post_processor(self) -> PostProcessor:
        """The default post-processor."""
        return AcePostProcessor()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One pass over the training set, on as many devices as there are."""
        return {"max_epochs": 1, "val_check_interval": 1.0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Fitted on normal images."""
        return LearningType.ONE_CLASS

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Normalise as the restored pre-processor asks for, and let the data module take its resize."""
        super().on_load_checkpoint(checkpoint)
        self._agree_on_normalisation()
        datamodule = getattr(self._trainer, "datamodule", None)
        if isinstance(datamodule, AnomalibDataModule):
            datamodule.setup()

    @classmethod
    def load_from_checkpoint(cls, *args, **kwargs) -> "PadimAce":  # type: ignore[override]
        """As anomalib's, with neither the backbone's weights nor the signature images at hand."""
        fitted = {"pre_trained": False, "signature_images": None, "signature_masks": None}
        return super().load_from_checkpoint(*args, **fitted | kwargs)  # type: ignore[return-value]


def _detector(preset: str, given: dict[str, Any]) -> Detector:
    """The preset, with what the arguments change in it."""
    expect_one_of("preset", preset, PRESETS)
    statistic = given.get("statistic", PRESETS[preset].statistic)
    expect_one_of("statistic", statistic, STATISTICS)
    if not STATISTICS[statistic].needs_signature:
        if "signature" in given:
            found = given["signature"]
            raise ValueError(f"signature: expected none with the statistic {statistic}, found {found!r}")
        given |= {"signature": "", "convention": ""}
    return replace(PRESETS[preset], **given)


def _source(images: Any, masks: str | Path | None, detector: Detector) -> Any:
    """Where the signature images come from: a folder's are listed now."""
    is_folder = isinstance(images, str | Path)
    if masks is not None and not is_folder:
        raise ValueError("signature_images: expected a folder, as signature_masks is one, found none; set it")
    if is_folder and masks is None and detector.signature == "masked":
        raise ValueError(f"signature_masks: expected a folder of masks of {images}, found none; set it")
    return SignatureFolder(images, masks) if is_folder else images

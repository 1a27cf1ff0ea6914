"""``PadimAce``: PaDiM-ACE as a model of anomalib, for its Engine, command line, exports and inferencers."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.data.datasets.base.image import AnomalibDataset
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule, MemoryBankMixin
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from torch import Tensor, nn
from torch.utils.data import Dataset, DistributedSampler
from torchvision.transforms.v2 import Compose, Normalize, Resize

from padim_ace.anomalib.processing import AcePostProcessor, exportable
from padim_ace.anomalib.signature_images import SignatureFolder, anomalous, image_paths, refuse_constant
from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.detector import Detector
from padim_ace.detect.model import AceModel, SignatureBatch

logger = logging.getLogger(__name__)

BACKGROUNDS = ("patch", "pooled", "shared")
SIGNATURES = ("mean", "masked", "mined", "contrast", "subspace")
STATISTICS = ("ace", "glrt")
SIGNATURE_BATCH = 16
"""Signature images embedded at a time."""


class PadimAce(MemoryBankMixin, AnomalibModule):
    """PaDiM with the adaptive cosine estimator (ACE): the cosine between a patch and a target signature.

    Like ``Padim`` it needs one pass over normal images; unlike ``Padim`` it also needs some anomalous images,
    to know what a target looks like (its signature), and its memory does not grow with the training set.

    ``model.model(images)`` gives the cosine itself, in [-1, 1]. The default post-processor brings it to
    anomalib's [0, 1], in which 0.5 is the threshold found in validation
    (:class:`padim_ace.anomalib.processing.AcePostProcessor`).

    Example:
        >>> from anomalib.data import Folder
        >>> from anomalib.engine import Engine
        >>> from padim_ace import PadimAce
        >>> datamodule = Folder("ships", "normal", root="data", abnormal_dir="anomalous", seed=0)
        >>> Engine().train(PadimAce(), datamodule=datamodule)  # doctest: +SKIP
    """

    model: AceModel

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        n_features: int | None = None,
        covariance: str = "full",
        aggregation: str = "mean_diagonal",
        background: str = "patch",
        signature: str = "mined",
        mined_patches: int = 16,
        dimensions: int = 8,
        statistic: str = "ace",
        signature_images: str | Path | Dataset | None = None,
        signature_masks: str | Path | None = None,
        weights: str = "auto",
        precision: str = "float32",
        seed: int = 0,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        """Load the backbone and draw the features.

        Args:
            backbone: a name of :data:`padim_ace.detect.backbones.BACKBONES`, or any timm model, with
                ``layers``.
            layers: timm's names of the backbone's stages to take; by default those of the paper.
            pre_trained: ``False`` draws the backbone's weights at random.
            n_features: how many of the stages' channels to keep, by default 100.
            covariance: ``full``, ``diagonal`` or ``isotropic``.
            aggregation: how an isotropic covariance comes to its one variance: ``mean_diagonal``,
                ``mean_full``, ``determinant`` or ``trace``. ACE does not depend on it.
            background: ``patch`` (mean and covariance of each place, as in PaDiM), ``pooled`` (mean of each
                place, one covariance) or ``shared`` (one mean and covariance for all places).
            signature: ``mean`` (mean embedding of the anomalous images at each place, as in the paper),
                ``masked`` (mean of their patches under masks), ``mined`` (mean of their patches farthest
                from the background: needs no masks), ``contrast`` (the same, held against the farthest
                patches of normal images) or ``subspace`` (several directions, held against the same; see
                :mod:`padim_ace.detect.signature`). All but ``mean`` need a full covariance.
            mined_patches: how many patches of each anomalous image ``mined`` takes.
            dimensions: how many directions ``subspace`` has.
            statistic: ``ace`` (the cosine) or ``glrt`` (Kelly's, which trusts the cosine less the nearer a
                patch is to the background: :func:`padim_ace.detect.statistics.glrt`). Both lie in [-1, 1].
            signature_images: the anomalous images for the signature: a folder, a dataset of anomalib's
                ``ImageItem``, or ``None`` for those of the training set or, if it has none (that of
                anomalib's ``Folder`` never has), of the validation set. ``None`` never takes the test set's.
            signature_masks: folder of their masks, for ``masked`` with a folder; same names.
            weights: where the backbone's weights come from: ``auto``, ``folder`` (``PADIM_ACE_WEIGHTS``),
                ``package`` or ``hub``.
            precision: of the backbone's pass: ``float32`` or ``bfloat16``. Exported models use float32.
            seed: of the choice of channels.
            pre_processor: by default resizes to 256 x 256 (:meth:`configure_pre_processor` makes one for
                another size). The model normalises as its backbone wants it, unless the pre-processor does.
            post_processor: by default :class:`padim_ace.anomalib.processing.AcePostProcessor`.
            evaluator: by default anomalib's image and pixel AUROC and F1.
            visualizer: by default anomalib's.

        Raises:
            ValueError: for an unknown value; it says which are allowed.
            padim_ace.detect.backbones.WeightsError: if no weights of the backbone are at hand.
        """
        super().__init__(
            pre_processor=pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        detector = _detector(
            covariance, aggregation, background, signature, mined_patches, dimensions, statistic
        )
        rows, columns = self.input_size or (256, 256)
        loaded = load_backbone(backbone, weights if pre_trained else "random", (rows, columns), layers)
        features = 100 if n_features is None else n_features
        self.model = AceModel(loaded, detector, features, seed, (rows, columns), precision)
        self.signature_images = signature_images
        self.signature_masks = signature_masks
        # DistributedDataParallel wraps no module without a parameter to train
        self.placeholder = nn.Parameter(torch.zeros(()))
        self._agree_on_normalisation()

    def _agree_on_normalisation(self) -> None:
        transform = getattr(self.pre_processor, "transform", None)
        self.model.normalise = not extract_transforms_by_type(transform, Normalize)

    # fitting

    def on_train_start(self) -> None:
        """Forget an earlier fit, and look for the signature images before the long pass.

        Raises:
            ValueError: if there are none, or only the test set's.
        """
        self.model.begin()
        self._is_fitted = torch.tensor([False], device=self.device)
        self._signature: Any = self._signature_dataset()
        loader: Any = self.trainer.train_dataloader
        self._to_see = sys.maxsize
        if isinstance(sampler := loader.sampler, DistributedSampler):
            # it repeats some images so that all ranks have equally many; those are at the end
            self._to_see = len(range(sampler.rank, len(loader.dataset), sampler.num_replicas))

    def training_step(self, batch: Any, *args, **kwargs) -> Tensor:
        """Add a batch's normal images to the background.

        Raises:
            ValueError: if one is constant.
        """
        keep = torch.arange(len(batch.image), device=batch.image.device) < self._to_see
        self._to_see -= len(batch.image)
        if batch.gt_label is not None:
            keep = keep & ~batch.gt_label.bool()
        if keep.any():
            refuse_constant(batch.image, batch.image_path)
            self.model.update(batch.image[keep])
        return self.placeholder * 0

    def fit(self) -> None:
        """Background and signature, at the end of the training pass.

        Raises:
            ValueError: for fewer than two normal images, or no anomalous image for the signature.
        """
        with torch.inference_mode(False):  # validation would leave buffers that nothing may change
            self.model.fit(self._signature_batches())
        self._signature = None

    def _signature_batches(self) -> Iterator[SignatureBatch]:
        """Preprocessed anomalous images, with their masks if they have some."""
        dataset = self._signature
        transform = getattr(self.pre_processor, "transform", None) or _unchanged
        for start in range(0, len(dataset), SIGNATURE_BATCH):
            items = [dataset[i] for i in range(start, min(start + SIGNATURE_BATCH, len(dataset)))]
            pairs: list[Any] = [transform(item.image, item.gt_mask) for item in items]
            images = torch.stack([image for image, _ in pairs])
            refuse_constant(images, [item.image_path for item in items])
            masks = None if pairs[0][1] is None else torch.stack([mask for _, mask in pairs]) > 0
            yield images.to(self.device), masks

    def _signature_dataset(self) -> Any:
        """The signature images (see ``signature_images``)."""
        source = self.signature_images
        found: Any
        if source is None:
            found, origin = self._anomalous_of_datamodule()
        elif isinstance(source, str | Path):
            found, origin = SignatureFolder(source, self.signature_masks), str(source)
        else:
            found, origin = anomalous(source), type(source).__name__
        if not len(found):
            raise ValueError(f"signature images: expected anomalous images in {origin}, found none; add some")
        if self.model.detector.signature == "masked" and found[0].gt_mask is None:
            raise ValueError(
                f"masked signature: expected masks with {origin}, found none; add signature_masks"
            )
        test = getattr(getattr(self.trainer, "datamodule", None), "test_data", None)
        if shared := len(image_paths(found) & image_paths(test)):
            message = f"signature images: expected none of the test set, found {shared} in {origin}"
            if source is None:
                raise ValueError(f"{message}; set signature_images to a folder of others")
            warnings.warn(f"{message}; test metrics will be too good", stacklevel=2)
        logger.info("Signature from %d anomalous images of %s.", len(found), origin)
        return found

    def _anomalous_of_datamodule(self) -> tuple[Any, str]:
        validation = self.trainer.val_dataloaders
        validation = validation[0] if isinstance(validation, list) else validation
        sets = {"the training set": self.trainer.train_dataloader, "the validation set": validation}
        for origin, loader in sets.items():
            if isinstance(dataset := getattr(loader, "dataset", None), AnomalibDataset):
                found = anomalous(dataset)
                if len(found):
                    return found, origin
        raise ValueError(
            "signature images: expected anomalous images in the training or validation set, found none; "
            "set signature_images to a folder of some"
        )

    # scoring

    def forward(self, batch: Tensor, *args, **kwargs) -> InferenceBatch:
        """From images in [0, 1] of any size to post-processed predictions: what an exported model computes.

        anomalib exports a resize without antialiasing, so that an exported Padim differs from its Engine.
        Here both resize alike.
        """
        transform = getattr(self.pre_processor, "transform", None)
        if transform is not None:
            batch = exportable(transform)(batch)
        elif self.pre_processor is not None:
            batch = self.pre_processor(batch)
        predictions = self.predictions(batch)
        return self.post_processor(predictions) if self.post_processor else predictions

    def predictions(self, images: Tensor) -> InferenceBatch:
        """Raw scores of images that are pre-processed, in anomalib's words."""
        scored = self.model(images)
        return InferenceBatch(pred_score=scored.pred_score, anomaly_map=scored.anomaly_map)

    def validation_step(self, batch: Any, *args, **kwargs) -> Any:
        """Score a batch; test and predict steps are anomalib's, which do the same."""
        return batch.update(**self.predictions(batch.image)._asdict())

    # what anomalib asks of a model

    @staticmethod
    def configure_optimizers() -> None:
        """Nothing to optimise."""

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Resize to ``image_size`` rows and columns, by default 256 x 256; the model itself normalises."""
        return PreProcessor(transform=Compose([Resize(image_size or (256, 256), antialias=True)]))

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out a signature dataset: it is no plain data, and a fitted model needs it no more."""
        super().on_save_checkpoint(checkpoint)
        parameters = checkpoint["hyper_parameters"]
        if not isinstance(parameters.get("signature_images"), str):
            parameters["signature_images"] = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Normalise as the restored pre-processor asks for."""
        super().on_load_checkpoint(checkpoint)
        self._agree_on_normalisation()

    def to_onnx(  # type: ignore[override]
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """As anomalib's, but for two defaults.

        ``opset_version`` is 18: anomalib's, 14, torch can no longer write, and says so at length.
        Without a resize in the pre-processor, ``input_size`` is that of the fit's images: no other will do.
        """
        if self.input_size is None:
            input_size = input_size or self.model.embedder.image_size
        return super().to_onnx(export_root, model_file_name, input_size, **{"opset_version": 18, **kwargs})

    @classmethod
    def load_from_checkpoint(cls, *args, **kwargs) -> PadimAce:  # type: ignore[override]
        """As anomalib's. The backbone's weights come from the checkpoint: they are not looked for again."""
        return super().load_from_checkpoint(*args, **{"pre_trained": False, **kwargs})  # type: ignore[return-value]


def _detector(
    covariance: str,
    aggregation: str,
    background: str,
    signature: str,
    mined_patches: int,
    dimensions: int,
    statistic: str,
) -> Detector:
    """The detector that these words of the constructor name."""
    if background not in BACKGROUNDS:
        raise ValueError(f"background: expected one of {', '.join(BACKGROUNDS)}, found {background!r}")
    if signature not in SIGNATURES:
        raise ValueError(f"signature: expected one of {', '.join(SIGNATURES)}, found {signature!r}")
    if signature != "mean" and covariance in ("diagonal", "isotropic"):
        raise ValueError(f"signature: expected mean for a {covariance} covariance, found {signature!r}")
    if statistic not in STATISTICS:
        raise ValueError(f"statistic: expected one of {', '.join(STATISTICS)}, found {statistic!r}")
    return Detector(statistic, background, covariance, signature, "centred", mined_patches, dimensions)


def _unchanged(image: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return image, mask

"""Exports that predict what the Engine does: a resize that every format has, and float32 where it matters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataModule, InferenceBatch
from anomalib.models.components.base.export_mixin import ExportMixin
from anomalib.pre_processing.utils.transform import get_exportable_transform
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, InterpolationMode, Resize, Transform

QUANTISED = {"Convolution", "GroupConvolution", "Constant", "Parameter", "Result"}
"""OpenVINO's operations that INT8_PTQ may quantise, and those that have nothing to quantise. Whitening in 8
bits would lose the small differences that the statistic rests on, and OpenVINO's CPU cannot compile it."""


class ExactExport(ExportMixin):
    """anomalib's exports, but for what makes a model differ from its Engine."""

    model: Any
    pre_processor: Any
    post_processor: Any
    input_size: Any

    def forward(self, batch: Tensor, *args, **kwargs) -> InferenceBatch:
        """From images in [0, 1] of any size to post-processed predictions: what an exported model computes.

        anomalib exports a resize without antialiasing, so that an exported Padim differs from its Engine.
        Here both resize alike. Classes are left out: anomalib's inferencers have no place for them.
        """
        transform = getattr(self.pre_processor, "transform", None)
        if transform is not None:
            batch = exportable(transform)(batch)
        elif self.pre_processor is not None:
            batch = self.pre_processor(batch)
        scored = self.model(batch)
        predictions = InferenceBatch(pred_score=scored.pred_score, anomaly_map=scored.anomaly_map)
        return self.post_processor(predictions) if self.post_processor else predictions

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

    @staticmethod
    def _post_training_quantization_ov(model: Any, datamodule: AnomalibDataModule | None = None) -> Any:
        """As anomalib's, but only convolutions are quantised: maps then move by less than 0.05 of [0, 1]."""
        import nncf

        if datamodule is None:
            raise ValueError("INT8_PTQ: expected a datamodule to calibrate with, found none; give datamodule")
        datamodule.setup("fit")
        others = {operation.get_type_name() for operation in model.get_ordered_ops()} - QUANTISED
        return nncf.quantize(
            model,
            nncf.Dataset(datamodule.val_dataloader(), lambda batch: batch.image),
            ignored_scope=nncf.IgnoredScope(types=sorted(others)),
        )


class MatrixResize(nn.Module):
    """torchvision's antialiased bilinear resize as two matrix products, which every export format has."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, images: Float[Tensor, "*batch in_row in_column"]) -> Float[Tensor, "*batch row column"]:
        """Resize to ``size`` rows and columns."""
        rows, columns = (
            resize_matrix(inputs, outputs, images.device)
            for inputs, outputs in zip(images.shape[-2:], self.size, strict=True)
        )
        # flat, as OpenVINO otherwise fuses what follows (a channel's mean, say) into the product, and fails
        flat = images.flatten(0, -3)
        return (rows @ flat @ columns.T).unflatten(0, images.shape[:-2])


def resize_matrix(
    inputs: int | torch.SymInt, outputs: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "output input"]:
    r"""Antialiased bilinear interpolation of a row of ``inputs`` pixels to ``outputs``.

    The weights are a triangle as wide as two pixels of the coarser grid, centred on the output pixel, and add
    up to 1. Distances are whole multiples of ``1 / (2 inputs outputs)`` of the row, and so exact.
    """
    source = (2 * torch.arange(inputs, device=device) + 1) * outputs
    target: Tensor = (2 * torch.arange(outputs, device=device) + 1) * inputs  # type: ignore[assignment]
    distance = (source - target.unsqueeze(1)).abs()
    width: Any = 2 * torch.sym_max(inputs, outputs)
    weights = (1 - distance.float() / width).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


def exportable(transform: Transform) -> Any:
    """A copy that can be exported, and resizes as ``transform`` does, if to fixed rows and columns."""
    if isinstance(transform, Compose):
        return Compose([exportable(part) for part in transform.transforms])
    if isinstance(transform, Resize) and transform.antialias:
        is_bilinear = InterpolationMode(transform.interpolation) is InterpolationMode.BILINEAR
        if is_bilinear and isinstance(transform.size, Sequence) and len(transform.size) == 2:
            return MatrixResize(transform.size)
    return get_exportable_transform(transform)

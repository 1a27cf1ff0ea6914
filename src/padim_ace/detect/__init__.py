"""The detector alone: a background, a target signature, a statistic, and the torch module that joins them.

It needs torch, timm, numpy, scipy and jaxtyping, and nothing of the rest of this package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "registry": [
            "BACKBONES",
            "BACKGROUNDS",
            "CHANNELS",
            "COVARIANCES",
            "RANDOM",
            "SAR_CHANNELS",
            "SIGNATURES",
            "STATISTICS",
        ],
        "detector": ["PADIM", "RECOMMENDED", "UNSUPERVISED", "Detector"],
        "false_alarm": ["false_alarm_rate", "false_alarm_threshold"],
        "statistics": ["ace", "glrt", "linear", "mahalanobis", "patch_scores", "tolerant"],
        "backbones": ["Backbone", "WeightsError", "load_backbone"],
        "embedding": ["Embedder", "FeatureSubset"],
        "background": ["Background", "Moments", "fit_background"],
        "inner_products": ["InnerProduct", "Shape", "inner_product"],
        "signature": ["MeanSignature", "lace", "logistic", "miace"],
        "classes": ["class_signatures", "image_class"],
        "maps": ["anomaly_map", "image_score", "smoothing_matrix"],
        "model": ["AceModel"],
    },
)

"""Whole scenes: from a GeoTIFF of any size to scores and detections on a map, in bounded memory.

``fit``, ``detect`` and ``info`` do what the command ``padim-ace`` does. They need rasterio.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fitting": ["fit"],
        "detecting": ["detect"],
        "about": ["info"],
        "reading": ["Scene"],
        "scaling": ["SCALES", "Scaling"],
        "model": ["Options", "SceneModel"],
        "tail": ["Tail"],
        "place": ["Place", "SceneError", "read_targets"],
    },
)

"""A small prepared dataset: noise with bright squares for targets, written in the prepared layout."""

import cv2
import numpy as np
import pandas as pd


def write_prepared(root, images=24, size=48, seed=0):
    """Half of the anomalous images are of the release's train split; every image has a normal copy without
    its square."""
    generator = np.random.default_rng(seed)
    rows = []
    for folder in ("normal", "anomalous", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(images):
        name, split = f"{i:03d}.png", "train" if i % 2 else "test"
        normal = generator.integers(20, 90, (size, size)).astype(np.uint8)
        mask = np.zeros((size, size), np.uint8)
        r, c = generator.integers(4, size - 16, 2)
        mask[r : r + 10, c : c + 8] = 255
        target = np.where(mask > 0, 220, normal).astype(np.uint8)
        for folder, image in (("normal", normal), ("anomalous", target), ("masks", mask)):
            cv2.imwrite(str(root / folder / name), image)
        for label in ("anomalous", "normal"):
            rows.append(
                {
                    "path": f"{label}/{name}",
                    "split": split,
                    "label": label,
                    "mask": f"masks/{name}" if label == "anomalous" else "",
                    "vehicle": "",
                    "class": "square" if label == "anomalous" else "background",
                    "scene": f"{i:03d}",
                    "source": name,
                    "width": size,
                    "height": size,
                    "sha256": "",
                }
            )
    pd.DataFrame(rows).sort_values("path").to_csv(root / "manifest.csv", index=False)
    (root / "preparation.json").write_text('{"parameters": {}}')
    return root

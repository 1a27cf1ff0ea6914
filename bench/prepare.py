"""Target removal, side by side: scikit-learn KMeans + SciPy (bench/straightforward.py) against data_prep.

Both remove the targets of the same chips with the same random fill, in turn, on one core; prints milliseconds
per chip, their ratio, and how well the masks agree: with k-means run to convergence, and with scikit-learn's
default, which the reference has and which stops before it. Chips: those of MSTAR under $PADIM_ACE_DATA, or
simulated ones where it is not set; of them every Nth.

    python bench/prepare.py [--every 20]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import straightforward  # noqa: E402
from tqdm import tqdm  # noqa: E402

from data_prep import target_removal  # noqa: E402
from data_prep.datasets import mstar
from data_prep.images import read_grey8  # noqa: E402
from data_prep.simulation.scenes import vehicle  # noqa: E402

PLAIN, RESEEDED, CONVERGED, OURS = "KMeans + SciPy", "the same, seed 1", "the same, tol=0", "data_prep"
ASKED = 0.99  # of the mean IoU with the converged k-means, over all of MSTAR's chips


def chips(every: int) -> tuple[str, list[tuple[str, np.ndarray]]]:
    """Chips of 128 px by name, and where they come from."""
    data = os.environ.get("PADIM_ACE_DATA")
    if not data:
        scenes = ((f"chip{i}", np.random.default_rng(i)) for i in range(0, 500, every))
        return "simulated", [(name, vehicle(128, 1, "train", True, rng).image) for name, rng in scenes]
    items, _ = mstar.items(Path(data) / "MSTAR", mstar.Parameters())
    return "MSTAR", [(i.name, mstar.centre_crop(read_grey8(i.files[0]), 128)) for i in items[::every]]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


def agreement(masks: dict[str, list[np.ndarray]]) -> list[str]:
    """How well the masks agree, in one line for each thing that they can be compared with."""

    def mean_and_median(a: str, b: str) -> tuple[float, float]:
        overlap = [iou(x, y) for x, y in zip(masks[a], masks[b], strict=True)]
        return float(np.mean(overlap)), float(np.median(overlap))

    converged, default = mean_and_median(OURS, CONVERGED), mean_and_median(OURS, PLAIN)
    held = "held" if converged[0] >= ASKED else "NOT held"
    own = mean_and_median(RESEEDED, PLAIN)[0]
    return [
        f"mask IoU {converged[0]:.4f} (median {converged[1]:.4f}) with k-means run to convergence, tol=0: "
        f"the clustering that both look for, so at least {ASKED} is asked: {held}",
        f"mask IoU {default[0]:.4f} (median {default[1]:.4f}) with scikit-learn's default, tol=1e-4: "
        f"it stops early, and agrees with itself from another seed to {own:.4f}",
    ]


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=20, help="take every Nth chip")
    source, todo = chips(parser.parse_args().every)
    cv2.setNumThreads(1)
    ways: dict[str, Callable] = {
        PLAIN: straightforward.remove,
        RESEEDED: partial(straightforward.remove, random_state=1),
        CONVERGED: partial(straightforward.remove, tol=0, max_iter=1000),
        OURS: target_removal.remove_by_kmeans,
    }
    seconds = {way: np.zeros(len(todo)) for way in ways}
    masks: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    for i, (name, chip) in enumerate(tqdm(todo, unit="chip")):
        for way, remove in ways.items():
            start = time.perf_counter()
            _, mask = remove(chip, target_removal.image_rng(0, name))
            seconds[way][i] = time.perf_counter() - start
            masks[way].append(mask)
    print(f"{len(todo)} {source} chips")
    for way, times in seconds.items():
        ratio = seconds[PLAIN].mean() / times.mean()
        mean, median = 1e3 * times.mean(), 1e3 * np.median(times)
        print(f"{way:>17}: {mean:7.2f} ms per chip, median {median:7.2f} ({ratio:.1f} x)")
    print("\n".join(agreement(masks)))


if __name__ == "__main__":
    main()

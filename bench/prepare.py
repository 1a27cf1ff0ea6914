"""Target removal, side by side: scikit-learn KMeans + SciPy (bench/straightforward.py) against data_prep.

Both remove the targets of the same chips with the same random fill, in turn, on one core; prints milliseconds
per chip, their ratio, and how well the masks agree: with k-means run to convergence, and with scikit-learn's
default, which the reference has and which stops before it. Chips: those of MSTAR under $PADIM_ACE_DATA, or
simulated ones where it is not set; of them every Nth.

    python bench/prepare.py [--every 20]
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import argparse  # noqa: E402
import time  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import straightforward  # noqa: E402
from tqdm import tqdm  # noqa: E402

from data_prep import target_removal  # noqa: E402
from data_prep.datasets import mstar  # noqa: E402
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


def overlap(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """Intersection over union of the masks of each chip."""
    return np.array([np.sum(x & y) / max(np.sum(x | y), 1) for x, y in zip(a, b, strict=True)])


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=20, help="take every Nth chip")
    source, todo = chips(parser.parse_args().every)
    cv2.setNumThreads(1)
    ways = {
        PLAIN: straightforward.remove,
        RESEEDED: partial(straightforward.remove, random_state=1),
        CONVERGED: partial(straightforward.remove, tol=0, max_iter=1000),
        OURS: target_removal.remove_by_kmeans,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    masks: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    for name, chip in tqdm(todo, unit="chip"):
        for way, remove in ways.items():
            start = time.perf_counter()
            masks[way].append(remove(chip, target_removal.image_rng(0, name))[1])
            seconds[way].append(time.perf_counter() - start)
    print(f"{len(todo)} {source} chips")
    for way, times in seconds.items():
        ratio, mean, median = sum(seconds[PLAIN]) / sum(times), 1e3 * np.mean(times), 1e3 * np.median(times)
        print(f"{way:>17}: {mean:7.2f} ms per chip, median {median:7.2f} ({ratio:.1f} x)")
    converged, default = (overlap(masks[OURS], masks[way]) for way in (CONVERGED, PLAIN))
    own = overlap(masks[RESEEDED], masks[PLAIN]).mean()
    held = "held" if converged.mean() >= ASKED else "NOT held"
    said = [f"{found.mean():.4f} (median {np.median(found):.4f})" for found in (converged, default)]
    print(f"mask IoU {said[0]} with k-means run to convergence, tol=0: {ASKED} asked, {held}")
    print(
        f"mask IoU {said[1]} with scikit-learn's default, tol=1e-4; from another seed it agrees to {own:.4f}"
    )


if __name__ == "__main__":
    main()

"""Target removal, side by side: scikit-learn KMeans + SciPy (bench/straightforward.py) against data_prep.

Both remove the targets of the same chips with the same random fill, in turn, on one core; prints milliseconds
per chip, their ratio, and how well the masks agree. Chips: those of MSTAR under $PADIM_ACE_DATA, or simulated
ones where it is not set; of them every Nth.

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

from data_prep import mstar, target_removal  # noqa: E402
from data_prep.images import read_grey8  # noqa: E402
from data_prep.scenes import vehicle  # noqa: E402


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


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=20, help="take every Nth chip")
    source, todo = chips(parser.parse_args().every)
    cv2.setNumThreads(1)
    ways: dict[str, Callable] = {
        "KMeans + SciPy": straightforward.remove,
        "the same, seed 1": partial(straightforward.remove, random_state=1),
        "the same, tol=0": partial(straightforward.remove, tol=0, max_iter=1000),
        "data_prep": target_removal.remove_by_kmeans,
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
        ratio = seconds["KMeans + SciPy"].mean() / times.mean()
        mean, median = 1e3 * times.mean(), 1e3 * np.median(times)
        print(f"{way:>17}: {mean:7.2f} ms per chip, median {median:7.2f} ({ratio:.1f} x)")
    # scikit-learn stops early by default (tol), so it does not agree with itself from another seed either.
    pairs = [("data_prep", "KMeans + SciPy"), ("the same, seed 1", "KMeans + SciPy")]
    for a, b in [*pairs, ("data_prep", "the same, tol=0")]:
        overlap = np.array([iou(x, y) for x, y in zip(masks[a], masks[b], strict=True)])
        print(f"mask IoU, {a} and {b}: {overlap.mean():.4f} on average, {np.median(overlap):.4f} median")


if __name__ == "__main__":
    main()

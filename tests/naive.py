"""The whole experiment once more, slowly and plainly, in float64, for one draw: from images to maps."""

from functools import cache

import numpy as np
import oracles
import torch
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from padim_ace.detect.registry import CHANNELS, SAR_CHANNELS


def sar_channels(image, grid):
    """[channel, row, column] of an image [row, column], cell by cell."""
    side = image.shape[0] // grid[0]
    cells = image.reshape(grid[0], side, grid[1], side).swapaxes(1, 2).reshape(*grid, -1)
    guard = min(64, *(n // 2 for n in image.shape))
    found = np.empty((6, *grid))
    for r, c in np.ndindex(*grid):
        away = side * np.maximum(np.abs(np.arange(grid[0]) - r)[:, None], np.abs(np.arange(grid[1]) - c))
        ring = cells[(away > guard / 2) & (away <= guard * 1.5 / 2)]
        x, level, deviation = cells[r, c], ring.mean(), ring.std() + 2 / 255
        peak = np.log1p(max(x.max() - level, 0) / deviation)
        power = np.log1p(((x - level) ** 2).mean() / deviation**2)
        found[:, r, c] = x.mean(), x.max(), x.min(), x.std(), peak, power
    return found


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def miace(targets, clutter, samples):
    targets, clutter = unit(targets), unit(clutter).mean((0, 1))

    def objective(s):
        return (targets @ s).max(1).mean() - s @ clutter

    s, reached = max(targets[:, 0], key=objective), -np.inf
    while True:
        best = np.array([bag[np.argmax(bag @ s)] for bag in targets])
        moved = unit(best.mean(0) - clutter)
        if objective(moved) <= reached:
            return s
        s, reached = moved, objective(moved)


def minimum(bags, start):
    """What SciPy's optimiser makes of LACE's loss, from weights and a bias."""

    def loss(parameters):
        w, bias = parameters[:-1], parameters[-1]
        value, gradient = 1e-3 / 2 * w @ w, np.append(1e-3 * w, 0)
        for of_bags, sign in zip(bags, (-1, 1), strict=True):
            best = np.array([bag[np.argmax(bag @ w)] for bag in of_bags])
            logits = best @ w + bias
            value += np.logaddexp(0, sign * logits).mean() / 2
            slopes = sign * expit(sign * logits) / len(best) / 2
            gradient += np.append(slopes @ best, slopes.sum())
        return value, gradient

    return minimize(loss, np.append(start, 0), jac=True, method="BFGS").fun


def check_lace(found, targets, clutter, samples):
    """Its loss has kinks, at which optimisers stop: a direction is right if it is as low there as SciPy's."""
    bags = [y / np.sqrt(samples + (y**2).sum(-1, keepdims=True)) for y in (targets, clutter)]
    along = [y @ found[:, None] for y in bags]
    assert minimum(along, [5]) < 1.001 * minimum(bags, 5 * miace(targets, clutter, samples))


def logistic(targets, clutter, samples):
    """By scikit-learn."""
    x = np.concatenate([targets.reshape(-1, targets.shape[-1]), clutter.reshape(-1, clutter.shape[-1])])
    counts = [targets[..., 0].size, clutter[..., 0].size]
    labels, weights = np.repeat([1, 0], counts), np.repeat([0.5 / n for n in counts], counts)
    model = LogisticRegression(C=1e3, tol=1e-10, max_iter=10_000)
    return unit(model.fit(x / np.sqrt(samples), labels, weights).coef_[0])


LEARNERS = {"miace": miace, "logistic": logistic}


class Naive:
    """One draw: an experiment's images, backbone, roles and features; and LACE's direction, once checked."""

    def __init__(self, experiment, number=0):
        self.experiment, self.run = experiment, experiment.runs[number]
        self.size, self.grid = experiment.settings.image_size, experiment.embedder.grid
        for method in ("embeddings", "background", "white", "direction"):
            setattr(self, method, cache(getattr(self, method)))

    def index(self, role):
        return np.flatnonzero(self.run.roles == role)

    def embeddings(self, role, channels="network", normalise=True):
        """[image, place, feature]"""
        backbone, images = self.experiment.embedder.backbone, self.experiment.dataset.image
        grey = torch.stack([images(i, self.size) for i in self.index(role).tolist()])
        colour = grey.expand(-1, 3, -1, -1)
        with torch.inference_mode():
            maps = backbone(backbone.normalise(colour) if normalise else colour)
        x = oracles.embedding(maps, self.run.subset.index(self.experiment.embedder.channels)).numpy()
        kinds = [kind for kind, number in SAR_CHANNELS.items() for _ in range(number)]
        kept = np.isin(kinds, CHANNELS[channels])
        if kept.any():
            sar = np.stack([sar_channels(image[0].double().numpy(), self.grid) for image in grey])
            x = np.concatenate([x, sar[:, kept]], 1)
        return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)

    def background(self, kind, channels):
        """Mean [place, feature], covariance [place, feature, feature], and of how many samples they are."""
        train = self.embeddings("train", channels)
        n, places, d = train.shape
        if kind == "shared":
            every = train.reshape(-1, d)
            covariance = np.cov(every.T) + 0.01 * np.eye(d)
            tiled = (np.broadcast_to(of, (places, *of.shape)) for of in (every.mean(0), covariance))
            return *tiled, n * places
        covariance = np.stack([np.cov(train[:, place].T) for place in range(places)])
        return train.mean(0), covariance + 0.01 * np.eye(d), n

    def white(self, role, kind, channels):
        """Whitened embeddings [image, place, feature]."""
        mean, covariance, _ = self.background(kind, channels)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
        return np.einsum("pfg,npg->npf", whiten, self.embeddings(role, channels) - mean)

    def candidates(self, role, kind, channels, images=None):
        """The 16 farthest patches of each image, farthest first; of a few images, in a seeded order."""
        white = self.white(role, kind, channels)
        order = np.random.default_rng(self.run.draw.seed).permutation(len(white))
        chosen = white if images is None else white[np.sort(order[:images])]
        return np.stack([y[np.argsort(-(y**2).sum(-1))[:16]] for y in chosen])

    def direction(self, signature, images, kind, channels):
        """A pooled signature. There are fewer normal images than clutter is looked for in."""
        if signature == "masked":
            white = self.white("signature", kind, channels)
            mask, side = self.experiment.dataset.mask, self.size[0] // self.grid[0]
            masks = torch.stack([mask(i, self.size) for i in self.index("signature").tolist()]).double()
            covered = torch.nn.functional.avg_pool2d(masks[:, None], side).reshape(len(masks), -1).numpy()
            return unit(np.einsum("np,npf->f", covered, unit(white)))
        targets = self.candidates("signature", kind, channels, images)
        clutter = self.candidates("train", kind, channels)
        samples = self.background(kind, channels)[2]
        if signature in LEARNERS:
            return LEARNERS[signature](targets, clutter, samples)
        found = self.run.signatures.pooled[kind, channels, signature, images]
        found = unit(torch.cat([part.flatten() for part in found]).double().numpy())
        check_lace(found, targets, clutter, samples)
        return found

    def scores(self, detector):
        """Patch scores [image, place] of a detector as it is meant, without a deviation."""
        kind, channels = detector.space
        y = self.white("test", kind, channels)
        mean, covariance, samples = self.background(kind, channels)
        energy = (y**2).sum(-1)
        if detector.statistic == "padim":
            return np.sqrt(energy)
        if detector.pooled:
            along = y @ self.direction(detector.signature, detector.images, kind, channels)
        else:
            s = self.embeddings("signature", channels).mean(0) - mean
            s = unit(np.einsum("pfg,pg->pf", np.linalg.inv(np.linalg.cholesky(covariance)), s))
            along = np.einsum("npf,pf->np", y, s)
        return {
            "ace": along / np.sqrt(energy),
            "glrt": along / np.sqrt(samples + energy),
            "linear": along,
            "tolerant": np.sqrt((0.95 * along.clip(0) ** 2 + 0.05 * energy) / (samples + energy)),
        }[detector.statistic]

    def maps(self, scores, smoothing=4.0):
        """Maps [image, row, column] of patch scores: anomalib's generator in float64."""
        generator = AnomalyMapGenerator(sigma=smoothing).double()
        patches = torch.from_numpy(scores).reshape(len(scores), 1, *self.grid)
        return generator.smooth_anomaly_map(generator.up_sample(patches, self.size))[:, 0].numpy()

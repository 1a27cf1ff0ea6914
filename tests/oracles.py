"""Slow, obvious versions of what the package does fast, in float64: one patch at a time where that is
clearest."""

import numpy as np
import torch
from torch.nn import functional as F


def embedding(maps, index):
    """PaDiM's embedding: nearest upsampling to the finest map, concatenation, selection. [image, feature,
    row, column]."""
    size = maps[0].shape[-2:]
    return torch.cat([F.interpolate(m, size=size, mode="nearest") for m in maps], 1)[:, index].double()


def mahalanobis(x, mean, covariance):
    d = x - mean
    return np.sqrt(d @ np.linalg.inv(covariance) @ d)


def ace(x, s, mean, covariance):
    """By an eigendecomposition of the covariance, as Eq. (2) reads when Σ is what is decomposed."""
    values, vectors = np.linalg.eigh(covariance)
    whiten = np.diag(values**-0.5) @ vectors.T
    a, b = whiten @ (x - mean), whiten @ s
    return a @ b / np.sqrt((a @ a) * (b @ b))


def published_ace(x, s, mean, covariance):
    """As the published code: the precision is decomposed as if it were the covariance (D1)."""
    return ace(x, s, mean, np.linalg.inv(covariance))


def auroc(scores, labels):
    """The chance that a positive scores higher than a negative, ties half: by comparing all pairs."""
    positive, negative = scores[labels][:, None], scores[~labels][None]
    return ((positive > negative) + 0.5 * (positive == negative)).mean()


def dense(rows, places, symmetric):
    """The matrix of a BlockRows at every place of the finest grid, entry by entry of its blocks."""
    sizes = [own.shape[-1] for own in rows.own]
    total = sum(sizes)
    result = np.zeros((places, total, total))
    for place in range(places):
        before = 0
        for cross, own in zip(rows.cross, rows.own, strict=True):
            n = own.shape[-1]
            at = place * own.shape[0] // places
            result[place, before : before + n, before : before + n] = own[at].numpy()
            if before:
                block = cross.reshape(own.shape[0], n, before)[at].numpy()
                result[place, before : before + n, :before] = block
                if symmetric:
                    result[place, :before, before : before + n] = block.T
            before += n
    return result

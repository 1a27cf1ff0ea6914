import numpy as np
import pytest
import torch

from padim_ace.detect import sar_channels
from padim_ace.experiment import rx


def _naive_neighbourhoods(image):
    half = rx.NEIGHBOURHOOD // 2
    padded = np.pad(image, half, mode="reflect")
    rows, columns = image.shape
    return np.array(
        [
            padded[r : r + rx.NEIGHBOURHOOD, c : c + rx.NEIGHBOURHOOD].ravel()
            for r in range(rows)
            for c in range(columns)
        ]
    )


def _naive_ring(image, guard, outer, of=np.mean):
    rows, columns = image.shape
    result = np.empty_like(image)
    for r in range(rows):
        for c in range(columns):
            values = [
                image[i, j]
                for i in range(max(0, r - outer // 2), min(rows, r + outer // 2 + 1))
                for j in range(max(0, c - outer // 2), min(columns, c + outer // 2 + 1))
                if abs(i - r) > guard // 2 or abs(j - c) > guard // 2
            ]
            result[r, c] = of(values)
    return result


def _naive_distance(vectors, mean, covariance):
    precision = np.linalg.inv(covariance + rx.QUANTISATION * np.eye(len(covariance)))
    return np.array([np.sqrt((v - mean) @ precision @ (v - mean)) for v in vectors])


@pytest.fixture
def images(monkeypatch):
    """Small ones, and a small ring: between squares of 5 and 9 pixels."""
    monkeypatch.setattr(sar_channels, "GUARD", 4)
    monkeypatch.setattr(sar_channels, "OUTER", 8)
    return torch.rand(3, 19, 23, generator=torch.Generator().manual_seed(0))


def test_ring_mean_is_the_mean_of_the_pixels_between_the_squares(images):
    found = sar_channels.ring_means(images, (1, 1))
    expected = np.stack([_naive_ring(image.double().numpy(), 5, 9) for image in images])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_local_rx_is_the_mahalanobis_distance_from_the_ring(images):
    found = rx.local_rx(images)
    for image, scores in zip(images.double().numpy(), found.numpy(), strict=True):
        vectors = _naive_neighbourhoods(image - _naive_ring(image, 5, 9))
        expected = _naive_distance(vectors, 0, vectors.T @ vectors / len(vectors))
        np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-4)


def test_cfar_counts_the_rings_standard_deviations(images):
    found = rx.cfar(images)
    for image, scores in zip(images.double().numpy(), found.numpy(), strict=True):
        mean = _naive_ring(image, 5, 9)
        deviation = np.sqrt(_naive_ring(image, 5, 9, np.var) + rx.QUANTISATION)
        np.testing.assert_allclose(scores, (image - mean) / deviation, rtol=1e-5, atol=1e-5)


def test_shared_rx_is_the_mahalanobis_distance_from_all_training_neighbourhoods(images):
    train, test = images[:2], images[2:]
    background = rx.shared_background(*rx.products(rx.neighbourhoods(train)))
    every = np.concatenate([_naive_neighbourhoods(image) for image in train.double().numpy()])
    covariance = np.cov(every.T, bias=True)
    np.testing.assert_allclose(background.mean.numpy(), every.mean(0), rtol=1e-5)
    whitened = background.whitening.double().numpy() @ covariance @ background.whitening.double().numpy().T
    np.testing.assert_allclose(whitened, np.eye(len(covariance)), atol=1e-3)
    found = rx.shared_rx(rx.neighbourhoods(test), background, (19, 23))
    expected = _naive_distance(
        _naive_neighbourhoods(test[0].double().numpy()), every.mean(0), covariance
    ).reshape(19, 23)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-3)


def test_local_rx_does_not_see_an_offset_and_hardly_a_gain(images):
    found = rx.local_rx(images)
    torch.testing.assert_close(rx.local_rx(images + 0.5), found, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rx.local_rx(images * 3), found, rtol=1e-3, atol=1e-3)


def test_a_bright_patch_scores_highest():
    image = 0.1 * torch.rand(1, 128, 128, generator=torch.Generator().manual_seed(1))
    image[0, 40:44, 80:84] += 0.5
    row, column = divmod(int(rx.local_rx(image).argmax()), 128)
    assert 36 <= row <= 47 and 76 <= column <= 87


def test_an_image_without_contrast_scores_zero():
    flat = torch.full((1, 128, 128), 0.3)
    assert rx.local_rx(flat).max() < 1e-2 and rx.cfar(flat).abs().max() < 1e-2

import pytest
import torch
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

from padim_ace.detect.maps import anomaly_map, image_score, smoothing_matrix


@pytest.mark.parametrize(
    ("patches", "pixels"), [((64, 64), (256, 256)), ((20, 33), (80, 97)), ((16, 8), (40, 33))]
)
def test_equals_anomalibs_upsampling_and_blur(patches, pixels):
    scores = torch.rand(3, 1, *patches) * 30
    generator = AnomalyMapGenerator(sigma=4)
    expected = generator.smooth_anomaly_map(generator.up_sample(scores, pixels))
    rows, columns = (smoothing_matrix(a, b) for a, b in zip(patches, pixels, strict=True))
    found = anomaly_map(scores[:, 0], rows, columns)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(image_score(found), expected.amax((1, 2, 3)), rtol=1e-5, atol=1e-5)


def test_a_map_leaves_the_range_of_its_scores_by_a_rounding_at_most():
    matrix = smoothing_matrix(64, 256)
    assert (matrix >= 0).all()
    assert (matrix.double().sum(1) - 1).abs().max() < 1e-7
    assert anomaly_map(torch.ones(64, 64), matrix, matrix).max() <= 1 + 1e-6


def test_an_image_smaller_than_the_kernel_is_refused():
    with pytest.raises(ValueError, match="more than 16 pixels a side for sigma 4.0, found 16"):
        smoothing_matrix(4, 16)

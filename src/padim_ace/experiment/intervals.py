"""How far a mean over random splits of the same images can be trusted; without torch."""

import math

from scipy.special import stdtrit

from padim_ace.experiment.protocols import TEST_SHARE, TRAIN_SHARE

TEST_PER_TRAIN = TEST_SHARE / TRAIN_SHARE


def half_width(confidence: float, *means: tuple[float, int]) -> float:
    """Half the width of the t-interval of a mean over random splits, or of the difference of two.

    Splits of the same images overlap, so their results are not independent. The corrected resampled t of
    Nadeau and Bengio (2003) takes ``s² (1/J + n_test/n_train)`` for the variance of a mean over J splits, in
    place of ``s²/J``. Means of different runs are independent of one another: their variances add, with the
    degrees of freedom of Welch and Satterthwaite.

    Args:
        confidence: such as 0.95.
        means: of each its standard deviation of single runs (with J - 1), and J.

    Returns:
        In the unit of the standard deviations; NaN where one has fewer than two runs.
    """
    if min(runs for _, runs in means) < 2:
        return math.nan
    variances = [std**2 * (1 / runs + TEST_PER_TRAIN) for std, runs in means]
    total = sum(variances)
    if total == 0:
        return 0.0
    shares = zip(variances, means, strict=True)
    freedom = 1 / sum((variance / total) ** 2 / (runs - 1) for variance, (_, runs) in shares)
    return float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(total)

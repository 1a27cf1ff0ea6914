import numpy as np
import oracles
import pytest
import torch
import torch.multiprocessing as mp
from test_pyramid import FEATURES, make

from padim_ace.detect import pyramid
from padim_ace.detect.background import Moments, fit_background

PLACES = 96


def blocks(rows):
    return [*rows.own, *rows.cross]


def moments_of(stages, batch=4):
    moments = Moments()
    for start in range(0, stages[0].shape[1], batch):
        moments.update([stage[:, start : start + batch] for stage in stages])
    return moments


def covariances(stages):
    return np.stack([np.cov(place.T) for place in pyramid.flatten(stages).double().numpy()])


@pytest.mark.parametrize("batch", [1, 4, 30])
def test_moments_are_those_of_all_images_at_once(batch):
    _, stages, _ = make(30)
    moments = moments_of(stages, batch)
    flat = pyramid.flatten(stages)
    torch.testing.assert_close(pyramid.flatten([m.unsqueeze(1) for m in moments.mean()])[:, 0], flat.mean(1))
    found = oracles.dense(moments.scatter(), PLACES, symmetric=True)
    np.testing.assert_allclose(found / 29, covariances(stages), atol=1e-12)


def test_moments_of_float32_embeddings_survive_a_large_mean():
    """Sums of squares around zero would lose all digits here."""
    _, stages, _ = make(200, dtype=torch.float64)
    shifted = [stage + 1000 for stage in stages]
    found = oracles.dense(moments_of([s.float() for s in shifted]).scatter(), PLACES, symmetric=True)
    np.testing.assert_allclose(found / 199, covariances(shifted), atol=2e-3)


@pytest.mark.parametrize("autocast", [False, True])
def test_float32_products_are_as_good_as_float64_ones(autocast):
    """Means of ten standard deviations: products around zero would miss by 1e-5, bfloat16 by 1e-2."""
    _, stages, _ = make(300, dtype=torch.float32)
    stages = [stage + 10 for stage in stages]
    exact = covariances(stages)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        moments = moments_of(stages, 64)
    found = oracles.dense(moments.scatter(), PLACES, symmetric=True) / 299
    size = np.sqrt(np.einsum("pii,pjj->pij", exact, exact))
    assert np.abs((found - exact) / size).max() < 1e-6


def test_backgrounds():
    _, stages, _ = make(30)
    moments = moments_of(stages)
    identity = 0.01 * np.eye(10)
    each = covariances(stages)
    flat = pyramid.flatten(stages).numpy()
    expected = {
        "patch": each + identity,
        "shared": np.broadcast_to(np.cov(flat.reshape(-1, 10).T) + identity, each.shape),
    }
    for kind, covariance in expected.items():
        background = fit_background(moments, kind, dtype=torch.float64)
        np.testing.assert_allclose(oracles.dense(background.covariance, PLACES, True), covariance, atol=1e-12)
        mean = pyramid.flatten(
            [m.unsqueeze(1).expand(s.shape[0], 1, -1) for m, s in zip(background.mean, stages, strict=True)]
        )
        wanted = flat.mean((0, 1)) if kind == "shared" else flat.mean(1)
        np.testing.assert_allclose(mean[:, 0], np.broadcast_to(wanted, mean[:, 0].shape))
        centred = background.centre(stages)
        white = pyramid.energy(pyramid.lower_product(background.whitening, centred))
        d = pyramid.flatten(centred).numpy()
        np.testing.assert_allclose(white, np.einsum("pif,pfg,pig->pi", d, np.linalg.inv(covariance), d))


@pytest.mark.parametrize("kind", ["patch", "shared"])
def test_a_background_of_some_features_is_that_of_narrowed_embeddings(kind):
    _, stages, _ = make(30, features=[4, 3, 5])
    kept = [0, 3, 4]
    few = [*stages[:-1], stages[-1][..., kept]]
    found = fit_background(moments_of(stages), kind, kept=torch.tensor(kept), dtype=torch.float64)
    expected = fit_background(moments_of(few), kind, dtype=torch.float64)
    assert found.samples == expected.samples
    for a, b in zip(found.narrow(stages), few, strict=True):
        assert torch.equal(a, b)
    for name in ("covariance", "whitening"):
        a, b = (oracles.dense(getattr(of, name), PLACES, False) for of in (found, expected))
        np.testing.assert_allclose(a, b, atol=1e-10)
    for a, b in zip(found.mean, expected.mean, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("kind", "places"), [("patch", 1), ("shared", PLACES)])
def test_samples_are_the_embeddings_that_a_covariance_is_of(kind, places):
    _, stages, _ = make(30)
    assert fit_background(moments_of(stages), kind).samples == 30 * places


def test_state_round_trip():
    _, stages, _ = make(30)
    moments = moments_of(stages)
    restored = Moments.from_state(moments.state())
    assert restored.count == 30
    for a, b in zip(blocks(moments.scatter()), blocks(restored.scatter()), strict=True):
        assert torch.equal(a, b)


def test_too_few_images_and_unknown_kinds():
    _, stages, _ = make(1)
    with pytest.raises(ValueError, match="at least 2 normal images, found 1"):
        fit_background(moments_of(stages))
    with pytest.raises(ValueError, match="at least 1 normal images, found 0"):
        Moments().mean()
    _, stages, _ = make(3)
    with pytest.raises(ValueError, match="patch, shared, found 'local'"):
        fit_background(moments_of(stages), "local")


def _rank(rank, stages, address, results):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    share = [stage[:, :11] if rank == 0 else stage[:, 11:] for stage in stages]
    moments = moments_of(share)
    moments.all_reduce()
    background = fit_background(moments, dtype=torch.float64)
    results[rank] = [moments.count, *(t.clone() for t in background.mean + blocks(background.covariance))]
    torch.distributed.destroy_process_group()


def test_two_ranks_have_the_moments_of_all_images(tmp_path):
    _, stages, _ = make(30, features=FEATURES)
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_rank, (stages, f"file://{tmp_path}/store", results), nprocs=2)
        found = [results[0], results[1]]
    background = fit_background(moments_of(stages), dtype=torch.float64)
    for count, *tensors in found:
        assert count == 30
        for a, b in zip(tensors, background.mean + blocks(background.covariance), strict=True):
            torch.testing.assert_close(a, b)

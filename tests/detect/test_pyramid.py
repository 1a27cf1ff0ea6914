import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from padim_ace.detect import pyramid

SIZES = [(2, 3), (4, 6), (8, 12)]
FEATURES = [5, 3, 2]


def make(images=7, sizes=SIZES, features=FEATURES, dtype=torch.float64):
    """Raster maps [image, feature, row, column], fine to coarse, and the same as an embedding."""
    maps = [torch.randn(images, f, *s, dtype=dtype) for f, s in zip(features, sizes, strict=True)]
    orders = pyramid.block_orders(sizes)
    stages = [m.flatten(2).permute(2, 0, 1)[o].contiguous() for m, o in zip(maps, orders, strict=True)]
    return maps[::-1], stages, orders


def test_block_order_upsamples_like_nearest_interpolation():
    maps, stages, orders = make()
    flat = pyramid.flatten(stages)
    upsampled = torch.cat([F.interpolate(m, size=SIZES[-1], mode="nearest") for m in maps[::-1]], 1)
    torch.testing.assert_close(flat, upsampled.flatten(2).permute(2, 0, 1)[orders[-1]])


def test_grids_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"\(5, 6\).*\(2, 3\)"):
        pyramid.block_orders([(2, 3), (5, 6)])


def test_children_group_and_ungroup():
    _, stages, _ = make()
    grouped = pyramid.group_children(stages[1], 6)
    assert grouped.shape == (6, 7, 4 * 3)
    torch.testing.assert_close(pyramid.ungroup_children(grouped, 3), stages[1])


def products_of(stages):
    rows = pyramid.empty_products(stages)
    pyramid.add_products(rows, stages)
    return rows


def test_products_are_those_of_the_flat_embedding():
    _, stages, _ = make()
    flat = pyramid.flatten(stages)
    expected = torch.einsum("pif,pig->pfg", flat, flat)
    np.testing.assert_allclose(oracles.dense(products_of(stages), 96, symmetric=True), expected)


def positive_definite(stages):
    rows = products_of(stages)
    return pyramid.BlockRows(rows.cross, [o + torch.eye(o.shape[-1], dtype=o.dtype) for o in rows.own])


def test_inverse_cholesky_is_that_of_every_place():
    _, stages, _ = make()
    covariance = positive_definite(stages)
    found = oracles.dense(pyramid.inverse_cholesky(covariance), 96, symmetric=False)
    expected = np.linalg.inv(np.linalg.cholesky(oracles.dense(covariance, 96, symmetric=True)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_products_with_embeddings():
    _, stages, _ = make()
    rows = positive_definite(stages)
    lower = oracles.dense(rows, 96, symmetric=False)
    whole = oracles.dense(rows, 96, symmetric=True)
    flat = pyramid.flatten(stages).numpy()
    np.testing.assert_allclose(
        pyramid.flatten(pyramid.lower_product(rows, stages)), np.einsum("pfg,pig->pif", lower, flat)
    )
    np.testing.assert_allclose(
        pyramid.quadratic_form(rows, stages), np.einsum("pif,pfg,pig->pi", flat, whole, flat)
    )
    np.testing.assert_allclose(pyramid.energy(stages), (flat**2).sum(-1))


@pytest.mark.parametrize("symmetric", [False, True])
def test_products_with_vectors_that_differ_at_every_place(symmetric):
    _, stages, _ = make()
    rows = positive_definite(stages)
    fine = torch.randn(96, 10, 4, dtype=torch.float64)
    found = pyramid.fine_product(rows, fine, symmetric)
    np.testing.assert_allclose(found, oracles.dense(rows, 96, symmetric) @ fine.numpy())


def test_column_energy():
    _, stages, _ = make()
    rows = pyramid.inverse_cholesky(positive_definite(stages))
    expected = (oracles.dense(rows, 96, symmetric=False) ** 2).sum(1)
    np.testing.assert_allclose(pyramid.column_energy(rows, 96), expected)


def test_projections():
    _, stages, _ = make()
    _, signatures, _ = make(images=3)
    flat, along = pyramid.flatten(stages), pyramid.flatten(signatures)
    repeated = pyramid.project(stages, pyramid.repeated_directions(signatures))
    torch.testing.assert_close(repeated, torch.einsum("pif,psf->pis", flat, along))
    fine = torch.randn(96, 10, 4, dtype=torch.float64)
    found = pyramid.project(stages, pyramid.fine_directions(fine, [6, 24, 96], FEATURES))
    torch.testing.assert_close(found, torch.einsum("pif,pfs->pis", flat, fine))
    one = [torch.randn(1, 2, f, dtype=torch.float64) for f in FEATURES]
    found = pyramid.project(stages, pyramid.repeated_directions(one))
    torch.testing.assert_close(found, torch.einsum("pif,sf->pis", flat, torch.cat(one, -1)[0]))


@settings(max_examples=20, deadline=None)
@given(
    base=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    factors=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=2),
    data=st.data(),
)
def test_any_pyramid_whitens_like_one_flat_stage(base, factors, data):
    """The pyramid only arranges the arithmetic: one stage of the flat embedding gives the same."""
    sizes = [base]
    for rows, columns in factors:
        sizes.append((sizes[-1][0] * rows, sizes[-1][1] * columns))
    features = [data.draw(st.integers(1, 3)) for _ in sizes]
    _, stages, _ = make(9, sizes, features)
    white = pyramid.lower_product(pyramid.inverse_cholesky(positive_definite(stages)), stages)
    flat = [pyramid.flatten(stages)]
    expected = pyramid.lower_product(pyramid.inverse_cholesky(positive_definite(flat)), flat)
    torch.testing.assert_close(pyramid.flatten(white), expected[0])

"""What the notebook of a preparation shows."""

import json

import numpy as np
import pandas as pd
import pytest
from fakes.releases import hrsid, mstar_images, ssdd

from data_prep import prepare, read_manifest
from padim_ace.report import preparation as figures
from padim_ace.report.figures import svg


@pytest.fixture(scope="module", params=["mstar", "ssdd", "hrsid"])
def folder(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    make = {"mstar": mstar_images, "ssdd": ssdd, "hrsid": hrsid}[request.param]
    return prepare(request.param, make(root / "raw"), root / "out")


def test_figures_draw(folder):
    manifest = read_manifest(folder)
    areas = figures.mask_areas(folder, manifest)
    assert "<svg" in svg(figures.examples(folder, manifest), "examples")
    assert "<svg" in svg(figures.outlier_figure(folder, areas), "outliers")
    lines = figures.report_lines(json.loads((folder / "preparation.json").read_text()))
    assert lines[0].startswith("Parameters: ") and "seed 0" in lines[0]


def test_counts_add_up(folder):
    manifest = read_manifest(folder)
    table = figures.counts(manifest)
    assert table.to_numpy()[-1, -1] == len(manifest)
    assert table.to_numpy()[:-1, :-1].sum() == len(manifest)


def test_areas_are_those_of_the_masks(tmp_path):
    out = prepare("hrsid", hrsid(tmp_path / "raw"), tmp_path / "out")
    areas = figures.mask_areas(out, read_manifest(out))
    np.testing.assert_allclose(areas["area"], 100 * 20 * 8 / 160**2)
    assert (areas["z"] == 0).all()  # all alike: none is an outlier


def test_outliers_are_judged_in_their_class():
    areas = pd.DataFrame({"class": ["a"] * 21 + ["b"] * 21, "z": [0.0] * 42})
    areas.loc[3, "z"], areas.loc[30, "z"], areas.loc[31, "z"] = 4.0, -9.0, 3.0
    assert figures.outliers(areas).index.tolist() == [30, 3]

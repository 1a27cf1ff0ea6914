"""Whole scenes through the command, on simulated ones."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from data_prep.simulation.whole import write_scene
from padim_ace import scene
from padim_ace.scene.cli import main

SIZE = (640, 704)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model of a sea without ships, and scenes with ships, placed by a CRS and by ground control points."""
    root = tmp_path_factory.mktemp("scenes")
    write_scene(root / "sea.tif", (1024, 1024), 0, border=0, land=0, seed=1)
    write_scene(root / "utm.tif", SIZE, 8, border=120, land=0, seed=2)
    write_scene(root / "gcps.tif", SIZE, 8, border=120, land=0, seed=2, place="gcps")
    assert main(["fit", f"{root / 'sea.tif'}", "-o", f"{root / 'sea.pt'}"]) == 0
    scenes = [f"{root / name}.tif" for name in ("utm", "gcps")]
    assert main(["detect", f"{root / 'sea.pt'}", *scenes, "-o", f"{root / 'out'}"]) == 0
    return root


@pytest.fixture(scope="session")
def model(folder):
    return scene.SceneModel.load(folder / "sea.pt")


def found(folder, name):
    return json.loads((folder / f"out/{name}.geojson").read_text())["features"]


def truth(folder, name):
    return json.loads((folder / f"{name}.truth.geojson").read_text())["features"]


def corners(geometry):
    points = np.array([p for polygon in geometry["coordinates"] for p in polygon[0]], float)
    return np.concatenate([points.min(0), points.max(0)])


def meet(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("name", ["utm", "gcps"])
def test_the_boxes_on_the_map_lie_on_the_ships(folder, name):
    ships = [corners({"coordinates": [f["geometry"]["coordinates"]]}) for f in truth(folder, name)]
    boxes = [corners(f["geometry"]) for f in found(folder, name)]
    assert sum(any(meet(ship, box) for box in boxes) for ship in ships) == 8
    assert sum(not any(meet(ship, box) for ship in ships) for box in boxes) <= 3
    for feature in found(folder, name):
        left, top, right, bottom = feature["properties"]["box_px"]
        assert 0 <= left < right <= SIZE[1] and 0 <= top < bottom <= SIZE[0]
        # 10 m between pixels, but for the scale of UTM on its central meridian
        per_pixel = feature["properties"]["area_m2"] / feature["properties"]["area_px"]
        assert per_pixel == pytest.approx(100 / 0.9996**2, rel=5e-4)
        for polygon in feature["geometry"]["coordinates"]:
            x, y = np.array(polygon[0]).T
            assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0  # counterclockwise


def test_the_raster_lies_on_the_scenes_own_grid_and_no_data_stays_that(folder):
    for name in ("utm", "gcps"):
        with (
            rasterio.open(folder / f"{name}.tif") as given,
            rasterio.open(folder / f"out/{name}.score.tif") as out,
        ):
            assert (out.shape, out.crs, out.transform) == (given.shape, given.crs, given.transform)
            assert [g.asdict() | {"id": 0} for g in out.gcps[0]] == [
                g.asdict() | {"id": 0} for g in given.gcps[0]
            ]
            assert out.dtypes == ("float32",) and np.isnan(out.nodata)
            assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            score, border = out.read(1), given.read(1) == 0
        assert np.isnan(score[border]).all() and 0.97 < np.isfinite(score[~border]).mean() < 1
        threshold = json.loads((folder / f"out/{name}.geojson").read_text())["padim_ace"]["options"][
            "threshold"
        ]
        for feature in found(folder, name):
            left, top, right, bottom = feature["properties"]["box_px"]
            assert (
                np.nanmax(score[top:bottom, left:right])
                >= feature["properties"]["score"] * 0.99999
                >= threshold
            )
        assert int((score >= threshold).sum()) == pytest.approx(
            sum(f["properties"]["area_px"] for f in found(folder, name)), rel=0.02
        )


def test_nothing_lights_up_along_the_border(folder, model):
    with rasterio.open(folder / "out/utm.score.tif") as out:
        score = out.read(1)
    column = np.arange(SIZE[1])
    edge = np.isnan(score).sum(1, keepdims=True)
    near, far = (column >= edge) & (column < edge + 24), column > edge + 100
    level = np.nanquantile(score[far], 0.9)
    assert (score[near] > level).mean() < 0.2


@pytest.mark.parametrize("zoom", [1, 2])
def test_the_map_does_not_depend_on_the_window(folder, model, tmp_path, zoom):
    if zoom == 2:
        options = scene.Options(zoom=2)
        model = scene.fit([folder / "sea.tif"], tmp_path / "twice.pt", options=options, window=1024)
    maps = []
    for window in (256 * zoom, 512 * zoom, 4096):
        scene.detect(model, folder / "utm.tif", tmp_path / f"{window}", window=window)
        with rasterio.open(tmp_path / f"{window}/utm.score.tif") as out:
            maps.append(out.read(1))
    assert model.patch == 4 // zoom
    for other in maps[1:]:
        np.testing.assert_allclose(maps[0], other, rtol=1e-4)


def test_a_rerun_skips_what_is_done_and_another_threshold_does_not(folder, capsys):
    score = folder / "out/utm.score.tif"
    before = score.stat().st_mtime_ns
    again = ["detect", f"{folder / 'sea.pt'}", f"{folder / 'utm.tif'}", "-o", f"{folder / 'out'}"]
    assert main(again) == 0 and score.stat().st_mtime_ns == before
    assert main([*again, "--pfa", "1e-4"]) == 0 and score.stat().st_mtime_ns > before
    assert main(again) == 0
    assert not [path for path in (folder / "out").iterdir() if path.name.startswith(".")]


def test_marked_targets_and_anomalous_images_make_a_signature(folder, tmp_path):
    marks = folder / "utm.truth.geojson"
    for anomalous in ([marks], [folder / "utm.tif"]):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.pt"
        normals = [folder / "sea.tif", folder / "utm.tif"] if anomalous == [marks] else [folder / "sea.tif"]
        fitted = scene.fit(normals, out, anomalous)
        assert fitted.detector.statistic == "tolerant" and scene.info(out)["anomalous"] == [anomalous[0].name]
        done = scene.detect(fitted, folder / "gcps.tif", tmp_path / out.stem, pfa=1e-4)
        boxes = [f["properties"]["box_px"] for f in done["features"]]
        ships = [f["properties"]["box_px"] for f in truth(folder, "gcps")]
        assert sum(any(meet(ship, box) for box in boxes) for ship in ships) >= 7
        scores = done["features"][0]["properties"]["score"]
        refitted = scene.detect(fitted, folder / "gcps.tif", tmp_path / "own", pfa=1e-4, fit_on_scene=True)
        assert refitted["features"] and 0.2 < refitted["features"][0]["properties"]["score"] / scores < 3


def test_a_scene_as_its_own_background_is_scored_as_by_a_model_of_it(folder, model, tmp_path):
    own = scene.fit([folder / "gcps.tif"], tmp_path / "own.pt")
    before = own.background
    scene.detect(own, folder / "gcps.tif", tmp_path / "a", threshold=20.0, fit_on_scene=True)
    assert own.background is before
    again = scene.SceneModel.load(folder / "sea.pt")
    again.scaling = own.scaling
    scene.detect(again, folder / "gcps.tif", tmp_path / "b", threshold=20.0, fit_on_scene=True)
    a, b = (rasterio.open(tmp_path / f"{name}/gcps.score.tif").read(1) for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_scores_are_the_distances_of_the_flat_embedding(folder, model):
    """By the detector's own embedder, and a covariance in float64."""
    from padim_ace.detect import Embedder, FeatureSubset
    from padim_ace.detect.pyramid import flatten

    grey = torch.rand(256, 256)
    embedder = Embedder(model.backbone, (256, 256), sar=True)
    subset = FeatureSubset(model.subset.stages, sar=True)
    x = flatten(subset.select(embedder.embed(grey[None, None])))[:, 0].double()
    rows, dense = model.background.covariance, np.zeros((106, 106))
    start = 0
    for cross, own in zip(rows.cross, rows.own, strict=True):
        size = own.shape[-1]
        dense[start : start + size, start : start + size] = own[0]
        if start:
            dense[start : start + size, :start], dense[:start, start : start + size] = cross[0], cross[0].T
        start += size
    centred = (x - torch.cat(model.background.mean, 1).double()).numpy()
    expected = np.sqrt(np.einsum("pi,ij,pj->p", centred, np.linalg.inv(dense), centred))
    expected = embedder.to_raster(torch.from_numpy(expected)[:, None])[0]
    scores = model.score(grey, (slice(0, 256), slice(0, 256)))
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_what_is_false_is_as_often_as_asked(folder, model, tmp_path):
    write_scene(tmp_path / "other.tif", (1024, 1024), 0, border=0, land=0, seed=9)
    scene.detect(model, tmp_path / "other.tif", tmp_path, threshold=1e9)
    with rasterio.open(tmp_path / "other.score.tif") as out:
        score = out.read(1)[::4, ::4]
    # the lower threshold rests on 20 of the 20,480 held-out patches, and most of these are neighbours
    for rate, factor in ((1e-2, 2), (1e-3, 8)):
        assert rate / factor < (score > model.tail.threshold(rate)).mean() < factor * rate


# --- a line for each thing that can be wrong ---


def said(capsys, *arguments, code=1):
    assert main([f"{a}" for a in arguments]) == code
    (line,) = [li for li in capsys.readouterr().err.splitlines() if li.startswith("error")]
    return line


def write(path, array, **profile):
    bands = array if array.ndim == 3 else array[None]
    settings = {"driver": "GTiff", "dtype": bands.dtype, "count": len(bands)} | profile
    with rasterio.open(path, "w", height=bands.shape[1], width=bands.shape[2], **settings) as out:
        out.write(bands)
    return path


def test_a_disk_that_fills_up_leaves_nothing(folder, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        line = said(capsys, "detect", folder / "sea.pt", folder / "utm.tif", "-o", tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "utm.score.tif: expected to write it" in line and "free some space" in line
    assert not list((tmp_path / "full").iterdir())


def test_errors_are_one_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = write(tmp_path / "plain.tif", np.full((300, 300), 7, np.uint8))
    blank = write(tmp_path / "blank.tif", np.zeros((300, 300), np.uint8), nodata=0)
    pt, out, utm = folder / "sea.pt", tmp_path / "o", folder / "utm.tif"
    assert "no.tif: expected a scene or a folder" in said(
        capsys, "detect", pt, tmp_path / "no.tif", "-o", out
    )
    assert "expected a band of 1, vv" in said(capsys, "detect", pt, utm, "--band", "hh", "-o", out)
    assert "expected valid pixels" in said(capsys, "detect", pt, blank, "-o", out)
    assert not list(out.glob("*"))  # nothing is left of a scene that failed
    assert "expected values that differ" in said(capsys, "fit", plain, "-o", tmp_path / "m.pt")
    marks = folder / "utm.truth.geojson"
    noise = write(tmp_path / "noise.tif", np.random.default_rng(0).integers(1, 99, (300, 300), np.uint8))
    line = said(capsys, "fit", noise, "--anomalous", marks, "-o", tmp_path / "m.pt")
    assert "expected a scene with a CRS or ground control points" in line
    (tmp_path / "stranger.pt").write_bytes(b"no model")
    assert "expected a padim-ace scene model" in said(capsys, "info", tmp_path / "stranger.pt")
    torch.save({"format": "padim-ace scene model, version 0"}, tmp_path / "old.pt")
    assert "version 0" in said(capsys, "info", tmp_path / "old.pt")
    torch.save({"format": SIZE.__class__, "run": Evil()}, tmp_path / "evil.pt")
    assert "expected a padim-ace scene model" in said(capsys, "info", tmp_path / "evil.pt")
    assert not Path("evil").exists()
    small = write(tmp_path / "small.tif", np.random.default_rng(0).integers(1, 99, (32, 32), np.uint8))
    assert "more valid patches than" in said(capsys, "fit", small, "-o", tmp_path / "m.pt")
    moved = json.loads(marks.read_text())
    moved["features"][0]["geometry"]["coordinates"][0][0][0] += 1
    (tmp_path / "sea.geojson").write_text(json.dumps(moved))
    line = said(capsys, "fit", utm, "--anomalous", tmp_path / "sea.geojson", "-o", tmp_path / "m.pt")
    assert "expected targets within 704 columns and 640 rows" in line
    assert "'cubic' is not one of" in said(capsys, "fit", utm, "-o", "m", "--scale", "cubic", code=2)
    assert "a rate above 0, at most 0.05" in said(capsys, "detect", pt, utm, "-o", out, "--pfa", "0.5")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other/noise.tif", np.ones((64, 64), np.uint8))
    twice = said(capsys, "detect", pt, noise, tmp_path / "other", "-o", out)
    assert "expected names that differ, found noise twice" in twice


class Evil:
    def __reduce__(self):
        return open, ("evil", "w")

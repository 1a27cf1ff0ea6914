"""The parts of the scene room, against slow or exact versions."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from scipy import ndimage, stats

from padim_ace.detect import load_backbone
from padim_ace.scene import SCALES, Options, Scaling, Scene, SceneError, SceneModel, Tail, read_targets
from padim_ace.scene.model import strides_and_reach
from padim_ace.scene.place import Place
from padim_ace.scene.reading import mirror
from padim_ace.scene.tiles import tiles
from padim_ace.scene.writing import Detections, whole

RNG = np.random.default_rng(0)
UNIT = Scaling("linear", 0.0, 1000.0)


@pytest.mark.parametrize("law", [stats.chi(10), stats.expon(), stats.genpareto(0.15)])
def test_a_threshold_is_passed_as_often_as_asked_below_what_the_scores_resolve(law):
    tails = [Tail.of(law.rvs(200_000, random_state=seed)) for seed in range(9)]
    for rate in (5e-2, 1e-2, 1e-3, 1e-4, 1e-5):
        assert rate / 2 < np.median([law.sf(tail.threshold(rate)) for tail in tails]) < 2 * rate
    tail = tails[0]
    with pytest.raises(ValueError, match="expected a rate above 0, at most 0.05"):
        tail.threshold(0.1)
    assert Tail.of(np.arange(100.0)) is None


def test_the_reach_is_that_of_the_layers():
    """EfficientNet-Lite0 to stride 16 sees 339 px: 3, 7, 11, 19 at stride 4; 35, 67 at 8; 83, 147, 339."""
    strides, found = strides_and_reach(load_backbone("tf_efficientnet_lite0"))
    assert strides == [16, 8, 4] and 160 < found <= (339 - 1) // 2 + 1


def test_a_network_that_sees_everything_is_refused():
    with pytest.raises(ValueError, match="expected one that sees a part of a scene"):
        strides_and_reach(load_backbone("mobilevit_xs", "random"))


@pytest.mark.parametrize("size", [(16, 40), (700, 1000), (513, 2047)])
def test_windows_cover_a_scene_once_with_margins_of_the_reach(size):
    model = object.__new__(SceneModel)
    model.options, model.block, model.reach = Options(), 16, 176
    count = np.zeros([-(-n // 16) * 16 for n in size], int)
    for tile in tiles(size, model, 512):
        rows, columns = (
            slice(at, at + p.stop - p.start) for at, p in zip(tile.corner, tile.inner, strict=True)
        )
        count[rows, columns] += 1
        for span, part, n in zip((tile.rows, tile.columns), tile.inner, count.shape, strict=True):
            assert span.start == max(span.start + part.start - 176, -48) and len(span) % 16 == 0
            assert span.stop == min(span.start + part.stop + 176, n + 48)
    assert (count == 1).all()


def test_invalid_areas_mirror_what_is_valid_moved_along_and_nothing_else_changes():
    values = np.arange(20000.0).reshape(200, 100)
    valid = np.ones_like(values, bool)
    valid[:, 60:] = False
    filled, known = mirror(values, valid)
    assert known.all() and (filled[:, :60] == values[:, :60]).all()
    assert (filled[:160, 60:100] == values[40:, 58:18:-1]).all()
    valid[:, 20:] = False
    assert (mirror(values, valid)[1] == (np.arange(100) < 84)).all()


TYPES = ["uint8", "uint16", "int16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_any_type_is_read_as_its_magnitude(tmp_path, dtype, suffix):
    values = RNG.integers(1, 100, (2, 40, 50)).astype(dtype)
    values = values * (1 + 1j) if dtype == "complex64" else values
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        with rasterio.open(path, "w", driver="GTiff", width=50, height=40, count=2, dtype=dtype) as out:
            out.write(values)
            out.set_band_description(2, "VH")
    with Scene(path, "vh" if suffix == "tif" else 2) as scene:
        read, valid = scene.read(range(5, 30), range(10, 50))
    np.testing.assert_allclose(read, np.abs(values[1, 5:30, 10:50]), rtol=1e-6)
    assert valid.all() and read.dtype == np.float32


def test_what_is_no_data_is_invalid_whatever_says_so(tmp_path):
    values = RNG.uniform(1, 9, (200, 300)).astype(np.float32)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -99
    values[5, 5] = 0  # dark water
    values[:, 280:] = 0  # a border
    path = tmp_path / "x.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=300, height=200, count=1, dtype="float32", nodata=-99
    ) as out:
        out.write(values, 1)
    expected = np.isfinite(values) & (values != -99)
    expected[:, 280:] = False
    with Scene(path) as scene:
        window = scene.window(range(-16, 216), range(-16, 300), UNIT)
        part = scene.window(range(50, 120), range(200, 300), UNIT)
    assert not window.scored[:16].any()
    near = ndimage.distance_transform_cdt(np.pad(expected, 9, "symmetric"), "chessboard")[9:-9, 9:-9] <= 8
    assert (window.scored[16:216, 16:] == ~near).all()
    assert np.isfinite(window.grey).all()
    np.testing.assert_array_equal(part.grey, window.grey[66:136, 216:316])


@pytest.mark.parametrize("scale", SCALES)
def test_scales_bring_the_same_scene_to_grey_levels(scale):
    amplitude = RNG.rayleigh(50, 100_000).astype(np.float32) + 1
    values = 20 * np.log10(amplitude) if scale == "db" else amplitude
    scaling = Scaling.of(values, scale)
    grey = scaling(values)
    assert grey.min() == 0 and np.median(grey) == pytest.approx(scaling.middle, abs=1e-3)
    assert (np.argsort(grey[::100]) == np.argsort(np.clip(grey[::100], 0, 1))).all()
    if scale == "db":
        np.testing.assert_allclose(grey, Scaling.of(amplitude, "linear")(amplitude), atol=1e-4)
    assert not scaling.complaint(values)
    assert "check scale, band and calibration" in scaling.complaint(values * 30)
    assert "check scale" in scaling.complaint(values / 30)


def test_pixels_and_areas_of_a_degree_grid_are_those_of_the_ellipsoid():
    place = Place(CRS.from_epsg(4326), Affine(0.001, 0, 10, 0, -0.001, 60))
    assert place.to_lonlat([(100, 50)]) == [(pytest.approx(10.1), pytest.approx(59.95))]
    assert place.to_pixels([(10.1, 59.95)])[0] == pytest.approx((100, 50))
    # a degree at 60° north: 55.800 km of longitude, 111.412 km of latitude (tables of WGS 84)
    assert place.pixel_area(0, 0) == pytest.approx(55.800 * 111.412, rel=1e-4)


def test_targets_are_read_from_pixels_and_refused_where_they_mean_nothing(tmp_path):
    box = {"type": "Polygon", "coordinates": [[[1, 2], [5, 2], [5, 9], [1, 2]]]}
    content = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": box}]}
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps(content | {"coordinates": "pixel"}))
    assert read_targets(path, Place(), (10, 10))[0]["coordinates"][0][2] == (5, 9)
    with pytest.raises(SceneError, match="expected targets within 4 columns and 10 rows"):
        read_targets(path, Place(), (10, 4))
    path.write_text(json.dumps(content))
    with pytest.raises(SceneError, match="a CRS or ground control points"):
        read_targets(path, Place(), (10, 10))
    for wrong in (
        "{",
        "[]",
        '{"features": []}',
        '{"features": [{"geometry": {"type": "Point", "coordinates": [1]}}]}',
    ):
        path.write_text(wrong)
        with pytest.raises(SceneError, match="expected a FeatureCollection of polygons"):
            read_targets(path, Place(), (10, 10))


def test_detections_are_the_labelled_groups_whatever_the_windows():
    score = RNG.uniform(0, 1, (60, 80)).astype(np.float32)
    score[score < 0.97] = np.nan
    whole_, halves = Detections(0.5, 4), Detections(0.5, 4)
    whole_.add(score, (0, 0))
    for column in (0, 40):
        halves.add(score[:, column : column + 40], (0, column * 4))
    features = whole_.features((240, 318), Place())
    assert features == halves.features((240, 318), Place())
    reach = ndimage.binary_dilation(np.isfinite(score), np.ones((2, 2)))  # steps of two rows and columns
    assert len(features) == ndimage.label(reach, np.ones((3, 3)))[1]
    cells = np.isfinite(score).repeat(4, 0).repeat(4, 1)[:, :318]
    assert sum(f["properties"]["area_px"] for f in features) == cells.sum()
    drawn = rasterio.features.rasterize(
        [{"type": "MultiPolygon", "coordinates": f["properties"]["outline_px"]} for f in features],
        cells.shape,
    )
    assert (drawn.astype(bool) == cells).all()
    assert all(f["geometry"] is None for f in features)


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    with (
        pytest.raises(SceneError, match="No space left on device; free some space"),
        whole(tmp_path / "x") as part,
    ):
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())

"""Simulated SAR: the statistics that theory gives, and the datasets made of it."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from data_prep import prepare, read_manifest
from data_prep.images import read_grey8
from data_prep.simulation import sar, scenes

NOTHING = np.empty((3, 0))


def clutter(looks=1, order=None, seed=0, size=256):
    rng = np.random.default_rng(seed)
    texture = np.ones((size, size)) if order is None else sar.gamma_texture((size, size), order, 3, rng)
    return sar.intensity(texture, NOTHING, sar.System(1.5, 35.0, looks, noise=0.0), rng), texture


@pytest.mark.parametrize("looks", [1, 4])
def test_speckle_is_gamma_distributed_with_the_number_of_looks(looks):
    power, _ = clutter(looks)
    assert power.mean() == pytest.approx(1, rel=0.02)
    assert 1 / power.var() == pytest.approx(looks, rel=0.05)  # equivalent number of looks
    sample = power[::8, ::8].ravel()  # farther apart than the response is wide
    assert stats.kstest(sample, stats.gamma(looks, scale=1 / looks).cdf).pvalue > 1e-3


def test_speckle_is_correlated_as_the_response_says():
    power, _ = clutter()
    response = sar.transfer_function((256, 256), sar.System(1.5, 35.0))
    expected = np.abs(np.fft.ifft2(response**2))[0, 1] ** 2  # of intensity: |field correlation| squared
    measured = np.corrcoef(power[:, 1:].ravel(), power[:, :-1].ravel())[0, 1]
    assert measured == pytest.approx(expected, abs=0.02) and measured > 0.3


def test_texture_is_gamma_distributed():
    texture = sar.gamma_texture((512, 512), 2.5, 1.5, np.random.default_rng(1))
    assert texture.mean() == pytest.approx(1, rel=0.03)
    assert 1 / texture.var() == pytest.approx(2.5, rel=0.05)
    assert stats.kstest(texture[::16, ::16].ravel(), stats.gamma(2.5, scale=1 / 2.5).cdf).pvalue > 1e-3


def test_textured_clutter_has_the_moments_of_a_k_distribution():
    order, looks = 3.0, 2
    # Texture slower than the response, so that it multiplies the speckle; E[I²] = (1 + 1/L)(1 + 1/ν).
    second = np.mean(
        [np.mean((p := clutter(looks, order, seed)[0]) ** 2) / np.mean(p) ** 2 for seed in range(12)]
    )
    assert second == pytest.approx((1 + 1 / looks) * (1 + 1 / order), rel=0.06)


def test_a_point_target_has_the_sidelobes_of_its_window():
    point = np.array([[128.0], [128.0], [1000.0]])
    for sidelobe, level in ((None, -13.3), (35.0, -35.0)):
        system = sar.System(1.5, sidelobe, 1, noise=0.0)
        power = sar.intensity(np.zeros((256, 256)), point, system, np.random.default_rng(0))
        # The response between pixels, by zero padding the transfer function.
        side = sar.transfer_function((256, 256), system)[0]
        fine = np.abs(np.fft.ifft(np.concatenate([side[:128], np.zeros(256 * 7), side[128:]])))
        decibel = 20 * np.log10(fine / fine.max() + 1e-12)
        null = np.argmax(np.diff(decibel) > 0)
        assert decibel[null : len(decibel) // 2].max() == pytest.approx(level, abs=1.0)
        assert np.unravel_index(power.argmax(), power.shape) == (128, 128)


def test_shadow_falls_away_from_the_radar_and_is_dark():
    far, near, ground = [], [], []
    for seed in range(10):
        scene = scenes.vehicle(128, 1, "train", True, np.random.default_rng(seed))
        rows, image = np.nonzero(scene.mask)[0], scene.image.astype(float)
        place = np.arange(128)[:, None]
        far.append(image[scene.mask & (place < rows.min() + 12)].mean())
        near.append(image[scene.mask & (place > rows.max() - 12)].mean())
        ground.append(image[~scene.mask].mean())
    assert np.mean(far) < 0.6 * np.mean(ground) and np.mean(near) > 2 * np.mean(ground)


def test_shadow_is_longer_at_the_lower_angle():
    areas = {
        split: np.mean(
            [scenes.vehicle(128, 1, split, True, np.random.default_rng(i)).mask.mean() for i in range(8)]
        )
        for split in ("train", "test")
    }
    assert areas["test"] > areas["train"]


@pytest.mark.parametrize("name", scenes.SCENES)
def test_scenes_show_their_targets_and_backgrounds_none(name):
    kind = scenes.SCENES[name]
    for seed in range(3):
        scene = kind.scene(128, kind.looks, "train", True, np.random.default_rng(seed))
        empty = kind.scene(128, kind.looks, "train", False, np.random.default_rng(seed))
        assert scene.image.shape == scene.mask.shape == (128, 128) and scene.image.dtype == np.uint8
        assert 0 < scene.mask.mean() < 0.3 and not empty.mask.any()
        assert scene.image[scene.mask].max() > 1.5 * scene.image[~scene.mask].mean()


@pytest.mark.parametrize("name", scenes.SCENES)
def test_a_simulated_dataset_is_the_same_again(tmp_path, name):
    digests = []
    for run in ("a", "b"):
        out = prepare(
            name, tmp_path / run / "raw", tmp_path / run / "out", seed=3, scenes=6, processes=1 + (run == "b")
        )
        digests.append(hashlib.sha256((out / "manifest.csv").read_bytes()).hexdigest())
    other = prepare(name, tmp_path / "c" / "raw", tmp_path / "c" / "out", seed=4, scenes=6)
    assert digests[0] == digests[1] != hashlib.sha256((other / "manifest.csv").read_bytes()).hexdigest()
    table = read_manifest(other, verify=True)
    assert set(table["split"]) == {"train", "test"} and set(table["label"]) == {"normal", "anomalous"}
    for row in table[table["vehicle"] != ""].to_dict("records"):
        whole, vehicle = (read_grey8(other / row[column]) > 0 for column in ("mask", "vehicle"))
        assert vehicle.any() and not (vehicle & ~whole).any() and vehicle.sum() < whole.sum()
        # the shadow is dark, the vehicle bright
        image = read_grey8(other / row["path"])
        assert image[vehicle].mean() > 2 * image[whole & ~vehicle].mean()
    expected = (table["label"] == "anomalous") & (name == "demo_vehicle")
    assert ((table["vehicle"] != "") == expected).all()


def test_looks_are_a_parameter(tmp_path):
    spread = {}
    for looks in (1, 8):
        raw = tmp_path / f"raw{looks}"
        prepare("demo_sea", raw, tmp_path / f"out{looks}", scenes=4, looks=looks)
        low, middle, high = np.percentile(read_grey8(raw / "images" / "scene0000.png"), [25, 50, 75])
        spread[looks] = (high - low) / middle
    assert spread[1] > 1.4 * spread[8]

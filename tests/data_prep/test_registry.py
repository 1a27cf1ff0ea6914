"""The registry: an entry carries all that is said of its dataset, and one line adds another."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.releases import mstar_images, save, water

from data_prep import DATASETS, read_manifest, title
from data_prep.__main__ import main

ROOT = Path(__file__).parents[2]
MOON = '''"""Moon: craters, with masks."""

from pathlib import Path

from data_prep.dataset import Dataset, Item, Parameters, Record
from data_prep.images import list_images, read_grey8, read_mask


def items(raw: Path, parameters: Parameters):
    """Every image of the release, with the files that decide it, and a report."""
    plain = [Item(p.stem, f"plain/{p.name}", "train", "background", (p,)) for p in list_images(raw / "plain")]
    craters = [
        Item(p.stem, f"craters/{p.name}", "test", "crater", (p, raw / "masks" / p.name))
        for p in list_images(raw / "craters")
    ]
    return plain + craters, {}


def load(item: Item, parameters: Parameters, seed: int):
    """The prepared images of one item."""
    image, about = read_grey8(item.files[0]), (item.split, item.category, item.source)
    if len(item.files) == 1:
        return [Record(item.name, "normal", *about, image)]
    return [Record(item.name, "anomalous", *about, image, read_mask(item.files[1], image.shape))]


DATASETS = {"moon": Dataset(title="Moon", items=items, load=load, folder="MOON", layout="plain/, craters/")}
'''


def run(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dataset_is_one_file_and_one_line(tmp_path):
    shutil.copytree(ROOT / "data_prep", tmp_path / "data_prep")
    (tmp_path / "data_prep" / "datasets" / "moon.py").write_text(MOON)
    registry = tmp_path / "data_prep" / "datasets" / "__init__.py"
    registry.write_text(registry.read_text().replace('    "mstar",\n', '    "mstar",\n    "moon",\n'))
    for i in range(3):
        save(tmp_path / "data" / "MOON" / "plain" / f"p{i}.png", water(i, 64))
        save(tmp_path / "data" / "MOON" / "craters" / f"c{i}.png", water(9 + i, 64))
        save(tmp_path / "data" / "MOON" / "masks" / f"c{i}.png", (water(9 + i, 64) > 20).astype("u1") * 255)
    options = ["-m", "data_prep", "moon", "--out", "out", "--tile-size", "32"]
    done = run(tmp_path, *options, PADIM_ACE_DATA=str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert len(read_manifest(tmp_path / "out", verify=True)) == 6 * 4


def test_importing_it_is_cheap():
    done = run(ROOT, "-c", "import data_prep, sys; print(*sys.modules)")
    modules = {name.split(".")[0] for name in done.stdout.split()}
    assert not modules & {"torch", "padim_ace", "matplotlib", "sklearn"}


def test_titles_are_said_once():
    titles = [entry.title for entry in DATASETS.values()]
    assert (
        len(set(titles)) == len(titles) and title("mstar") == "MSTAR" and title("unheard of") == "unheard of"
    )
    sources = "".join(path.read_text() for path in (ROOT / "data_prep").rglob("*.py"))
    for said in ("SSDD by masks", "SSDD by k-means", "Simulated open sea", "Your own images"):
        assert sources.count(said) == 1


def test_the_page_tells_where_each_release_is_to_be_had():
    page = (ROOT / "book" / "get_data.md").read_text()
    for entry in DATASETS.values():
        for word in re.findall(r"https://[^ )]+|[\w-]{33}", entry.site):
            assert word in page, (entry.title, word)


@pytest.mark.parametrize("name", DATASETS)
def test_help_says_what_each_option_does(name, capsys):
    assert main([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for field, about in DATASETS[name].parameters.model_fields.items():
        assert about.description and f"--{field.replace('_', '-')}" in text
        assert about.description.replace("-", "") in text.replace("- ", "").replace("-", ""), field
    assert "at least 0" in text and (DATASETS[name].site or "") in text.replace("- ", "-")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mstar", "--out", "o", "--crop", "0"], 1, "crop: expected greater than or equal to 8, found '0'"),
        (["mstar", "--out", "o", "--crop", "abc"], 1, "crop: expected a valid integer"),
        (["hrsid", "--out", "o", "--tile-size", "none", "--seed", "x"], 1, "seed: expected a valid integer"),
        (
            ["ssdd", "--out", "o", "--removal", "inpaint"],
            2,
            "'inpaint' is not one of 'mask', 'kmeans', 'none'",
        ),
        (["ssdd", "--out", "o", "removal=kmeans"], 2, "unexpected extra argument"),
        (["folder", "--out", "o"], 1, "raw: expected the folder that holds Your own images, found none"),
        (["mstar"], 2, "Missing option '--out'"),
        (["moon"], 2, "No such command 'moon'"),
    ],
)
def test_errors_of_the_command_line_are_one_line(arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PADIM_ACE_DATA", str(mstar_images(tmp_path / "MSTAR").parent))
    assert main(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_raw_defaults_to_the_folder_of_all_releases(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PADIM_ACE_DATA", str(mstar_images(tmp_path / "data" / "MSTAR").parent))
    assert main(["mstar", "--out", str(tmp_path / "out")]) == 0
    assert len(read_manifest(tmp_path / "out")) == 16

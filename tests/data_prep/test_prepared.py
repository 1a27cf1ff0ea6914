"""The prepared layout: format, resuming, processes, validation, anomalib's Folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fakes.releases import mstar_images, ssdd
from PIL import Image

from data_prep import DataError, Record, pipeline, prepare, prepared, read_manifest
from data_prep.__main__ import main


def contents(folder):
    """Bytes of every file that is part of the format."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".jsonl"
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return mstar_images(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def folder(raw, tmp_path_factory):
    return prepare("mstar", raw, tmp_path_factory.mktemp("prepared") / "mstar")


def test_manifest_and_files_agree(folder):
    table = read_manifest(folder, verify=True)
    assert list(table.columns) == prepared.COLUMNS
    assert table["path"].is_monotonic_increasing
    assert table.groupby("scene")["label"].agg(sorted).tolist() == [["anomalous", "normal"]] * 8
    files = {name for name in contents(folder) if name.endswith(".png")}
    assert files == set(table[["path", "mask", "vehicle"]].to_numpy().flat) - {""}
    normal, anomalous = (set(p.name for p in (folder / kind).iterdir()) for kind in ("normal", "anomalous"))
    assert normal == anomalous == set(p.name for p in (folder / "masks").iterdir())
    mask = np.asarray(Image.open(next((folder / "masks").iterdir())))
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}


def test_preparation_file(folder, raw):
    content = json.loads((folder / "preparation.json").read_text())
    assert content["seed"] == 0 and content["raw"]["items"] == 8 and len(content["raw"]["sha256"]) == 64
    assert {"split": "test", "label": "normal", "class": "T72", "images": 2} in content["counts"]
    assert set(content["versions"]) == {"numpy", "opencv", "pillow"}


@pytest.mark.parametrize("processes", [2, 3])
def test_same_bytes_on_any_number_of_processes(raw, folder, tmp_path, processes):
    assert contents(prepare("mstar", raw, tmp_path / "out", processes=processes)) == contents(folder)


def test_seed_decides_the_fill_and_nothing_but_the_fill(raw, folder, tmp_path):
    other = contents(prepare("mstar", raw, tmp_path / "out", seed=1))
    for name, content in contents(folder).items():
        if name.startswith("normal/"):
            assert other[name] != content
        elif name.startswith("anomalous/"):
            assert other[name] == content


def test_a_second_run_does_nothing(raw, folder, monkeypatch):
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*.*") if p.is_file()}
    monkeypatch.setattr(pipeline, "_work", lambda *_: pytest.fail("did an item again"))
    prepare("mstar", raw, folder)
    assert stamps == {p: p.stat().st_mtime_ns for p in folder.rglob("*.*") if p.is_file()}


def test_it_resumes_after_a_stop_in_the_middle(raw, folder, tmp_path, monkeypatch):
    done, work = [], pipeline._work

    def stops(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments[-1].name)
        return work(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_work", stops)
        with pytest.raises(KeyboardInterrupt):
            prepare("mstar", raw, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()
    journal = tmp_path / "out" / prepared.JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"item": "cut sh')  # as a kill may leave it
    next((tmp_path / "out" / "normal").glob("*.png")).write_bytes(
        b"changed"
    )  # and a file that changed: done again
    again = []
    monkeypatch.setattr(pipeline, "_work", lambda *a: again.append(a[-1].name) or work(*a))
    assert contents(prepare("mstar", raw, tmp_path / "out")) == contents(folder)
    assert len(again) == 8 - 3 + 1 and len(set(again) & set(done)) == 1


def test_kill_9_leaves_whole_files_and_no_manifest(tmp_path):
    raw = mstar_images(tmp_path / "raw", per_class=15)
    command = [sys.executable, "-m", "data_prep", "mstar", "--raw", str(raw), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out" / "normal").glob("*.png")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.csv").exists()
    for path in (tmp_path / "out").rglob("*.png"):
        Image.open(path).load()  # whole
    out = prepare("mstar", raw, tmp_path / "out")
    assert len(read_manifest(out, verify=True)) == 120
    assert not list(out.rglob("*.tmp"))


def test_other_parameters_replace_what_was_there(raw, tmp_path):
    out = prepare("mstar", raw, tmp_path / "out", crop=100)
    stray = out / "normal" / "stray.png"
    stray.write_bytes(b"")
    assert (read_manifest(prepare("mstar", raw, out, crop=128))["width"] == 128).all()
    assert not stray.exists()


def test_only_what_changed_in_the_raw_files_is_done_again(tmp_path, monkeypatch):
    raw = ssdd(tmp_path / "raw")
    out = prepare("ssdd", raw, tmp_path / "out")
    changed = next(raw.glob("**/JPEGImages_train/000002.jpg"))
    changed.write_bytes(next(raw.glob("**/JPEGImages_train/000003.jpg")).read_bytes())
    next(raw.glob("**/JPEGImages_test/000005.jpg")).unlink()
    again, work = [], pipeline._work
    monkeypatch.setattr(pipeline, "_work", lambda *a: again.append(a[-1].name) or work(*a))
    table = read_manifest(prepare("ssdd", raw, out), verify=True)
    assert again == ["000002"] and len(table) == 8
    assert not (out / "masks" / "000005.png").exists()


def test_anomalib_reads_it_unchanged(folder):
    from anomalib.data import Folder

    data = Folder(
        "x", root=folder, normal_dir="normal", abnormal_dir="anomalous", mask_dir="masks", num_workers=0
    )
    data.setup()
    samples = data.train_data.samples, data.test_data.samples
    assert sum(len(s) for s in samples) + len(data.val_data.samples) == 16
    item = next(s for s in data.test_data if s.gt_label)
    expected = np.asarray(Image.open(folder / "masks" / Path(item.image_path).name)) > 0
    assert Path(item.mask_path).name == Path(item.image_path).name
    assert (item.gt_mask.numpy().squeeze() > 0).sum() == expected.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "manifest.csv").unlink(), "found no file"),
        (lambda f: (f / "manifest.csv").write_text("a,b\n1,2\n"), r"found \['a', 'b'\]"),
        (
            lambda f: (f / "manifest.csv").write_text(
                "path,split,label,mask,vehicle,class,scene,source,width,height,sha256\n"
            ),
            "none",
        ),
        (lambda f: edit(f, ",train,", ",tarin,"), "found 'tarin'"),
        (lambda f: edit(f, "anomalous,", "odd,"), "found 'odd'"),
        (
            lambda f: (f / "masks" / "T72_train_hb00000.png").unlink(),
            "masks/T72_train_hb00000.png: expected a file",
        ),
        (lambda f: (f / "normal" / "T72_train_hb00000.png").write_bytes(b""), "SHA-256 differs"),
        (lambda f: Image.new("L", (5, 5)).save(f / "masks" / "T72_train_hb00000.png"), "found mode L of 5x5"),
        (lambda f: Image.new("L", (128, 128), 7).save(f / "masks" / "T72_train_hb00000.png"), "0 and 255"),
    ],
)
def test_a_damaged_dataset_is_found_out(raw, tmp_path, change, message):
    out = prepare("mstar", raw, tmp_path / "out")
    change(out)
    with pytest.raises(DataError, match=message) as error:
        read_manifest(out, verify=True)
    assert "\n" not in str(error.value)


def edit(folder, old, new):
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace(old, new, 1))


def test_command_line(raw, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--seed", "2", "--crop", "120", "--white", "none"]
    assert main(["mstar", "--raw", str(raw), "--out", str(out), *options]) == 0
    content = json.loads((out / "preparation.json").read_text())
    assert content["seed"] == 2 and content["parameters"]["crop"] == 120
    assert content["parameters"]["white"] is None
    assert main(["mstar", "--raw", str(tmp_path / "nowhere"), "--out", str(tmp_path / "b")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert (
        message.startswith(f"error: {tmp_path / 'nowhere'}: expected MSTAR") and "sdms.afrl.af.mil" in message
    )
    assert not (tmp_path / "b").exists()


def test_a_relative_folder_works(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(read_manifest(prepare("mstar", Path(os.path.relpath(raw)), Path("out"), processes=2))) == 16


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "/x", ".x", "", "a\nb", "a\0b", "x" * 241, "..", "\u202ex"]
)
def test_a_name_is_checked_where_it_is_written(tmp_path, name):
    record = Record(name, "normal", "train", "background", "source.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="source.png: expected a plain name"):
        prepared.write_record(tmp_path / "in", record)
    assert not list(tmp_path.iterdir())

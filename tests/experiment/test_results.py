import itertools
import json
import math

import pandas as pd
import pytest

from data_prep import DataError
from padim_ace.experiment import results
from padim_ace.experiment.provenance import provenance, sources
from padim_ace.experiment.results import SCORES


def frame(**changed):
    row = dict(
        dataset="ssdd",
        backbone="resnet18",
        protocol="paper",
        detector="ace",
        background="patch",
        covariance="full",
        signature="mean",
        convention="centred",
        channels="network",
        smoothing="4",
        seed=0,
        level="image",
        metric="auroc",
        value=1 / 3,
    )
    return pd.DataFrame([row | changed])


def test_what_is_written_reads_back_to_the_last_bit(tmp_path):
    results.write_scores(frame(), tmp_path / "scores.csv")
    text = (tmp_path / "scores.csv").read_text()
    assert text.splitlines()[0] == ",".join(SCORES)
    assert (
        text.splitlines()[1]
        == "ssdd,resnet18,paper,ace,patch,full,mean,centred,network,4,0,image,auroc,0.3333333333333333"
    )
    back = results.read_scores(tmp_path / "scores.csv")
    assert back["value"][0] == 1 / 3 and back["background"][0] == "patch" and back["seed"][0] == 0


def test_a_folders_rivals_are_read_with_its_scores(tmp_path):
    results.write_scores(frame(), tmp_path / "scores.csv")
    assert len(results.read_scores(tmp_path)) == 1
    results.write_scores(frame(detector="mhpatchcore"), tmp_path / "rivals.csv")
    assert list(results.read_scores(tmp_path)["detector"]) == ["ace", "mhpatchcore"]
    results.write_scores(frame(), tmp_path / "rivals.csv")
    with pytest.raises(DataError, match="twice"):
        results.read_scores(tmp_path)


def test_equal_results_give_equal_bytes_in_any_order_of_rows_and_columns(tmp_path):
    rows = [frame(seed=seed, level=level) for seed, level in itertools.product((10, 2), ("pixel", "image"))]
    results.write_scores(pd.concat(rows), tmp_path / "a.csv")
    results.write_scores(pd.concat(rows[::-1])[list(SCORES[::-1])], tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert list(results.read_scores(tmp_path / "a.csv")["seed"]) == [2, 2, 10, 10]  # as numbers


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": 84.99}, "fraction"),
        ({"value": math.nan}, "fraction"),
        ({"value": "high"}, "'high'"),
        ({"level": "Image"}, "'Image'"),
        ({"protocol": "other"}, "'other'"),
        ({"metric": "roc"}, "'roc'"),
        ({"covariance": "sphere"}, "'sphere'"),
        ({"background": "sphere"}, "'sphere'"),
        ({"seed": 0.5}, "whole number as seed"),
        ({"detector": ""}, "detector in every row"),
    ],
)
def test_a_broken_row_is_refused_in_one_line_and_leaves_no_file(tmp_path, changed, said):
    with pytest.raises(DataError, match=said) as caught:
        results.write_scores(frame(**changed), tmp_path / "scores.csv")
    assert "\n" not in str(caught.value) and str(tmp_path / "scores.csv") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_rows_with_one_key_are_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        results.write_scores(pd.concat([frame(), frame(value=0.5)]), tmp_path / "scores.csv")


def test_a_wrong_header_is_refused(tmp_path):
    (tmp_path / "scores.csv").write_text("dataset,value\nssdd,0.5\n")
    with pytest.raises(DataError, match="expected the columns"):
        results.read_scores(tmp_path / "scores.csv")
    with pytest.raises(DataError, match="no file"):
        results.read_scores(tmp_path / "none.csv")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    results.write_json({"a": 1}, path)
    with pytest.raises(ValueError, match="JSON"):
        results.write_json({"a": math.nan}, path)
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_provenance_says_nothing_of_the_machine_that_another_would_not(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes(b"abc")
    found = provenance(
        parameters={"out": tmp_path / "score", "seeds": [0, 1], "settings": {"root": str(tmp_path)}},
        inputs={"manifest": manifest},
        device="cpu",
        seconds=1.26,
    )
    assert found["inputs"]["manifest"] == {
        "file": "manifest.csv",
        "bytes": 3,
        # FIPS 180-2, appendix B.1
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert found["parameters"]["out"] == "score" and found["parameters"]["seeds"] == [0, 1]
    assert str(tmp_path) not in json.dumps(found)
    assert found["versions"]["torch"] and found["seconds"] == 1.3 and found["date"].endswith("Z")
    assert found["sources"] == sources() and len(found["sources"]["sha256"]) == 64
    with pytest.raises(DataError, match="weights"):
        provenance(parameters={}, inputs={"weights": tmp_path / "none"}, device="cpu", seconds=0)


def part(folder, not_run="", **changed):
    results.write_scores(frame(**changed), folder / "scores.csv")
    results.write_json({"device": "cpu"}, folder / "provenance.json")
    if not_run:
        (folder / "not_run.csv").write_text("dataset,detector,backbone,reason,command\n" + not_run)
    return folder


def test_collect_joins_runs_and_what_was_not_run(tmp_path):
    a = part(tmp_path / "ssdd-resnet18")
    b = part(tmp_path / "mstar-baselines", "mstar,dfm,resnet50,no weights,make book\n", dataset="mstar")
    results.collect([a, b], tmp_path / "out")
    assert list(results.read_scores(tmp_path / "out/scores.csv")["dataset"]) == ["mstar", "ssdd"]
    assert set(results.read_json(tmp_path / "out/provenance.json")["runs"]) == {
        "ssdd-resnet18",
        "mstar-baselines",
    }
    assert "no weights" in (tmp_path / "out/not_run.csv").read_text()


def test_collect_refuses_a_number_that_two_runs_have(tmp_path):
    with pytest.raises(DataError, match="twice"):
        results.collect([part(tmp_path / "a"), part(tmp_path / "b")], tmp_path / "out")

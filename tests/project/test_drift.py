import subprocess
from pathlib import Path

import drift
import pandas as pd
import pytest

from padim_ace.experiment.results import SCORES, read_json, read_scores, write_json, write_scores

ROOT = Path(__file__).parents[2]
NAMED = ("padim", "patch", "full", "", "", "network", "4")
ROW = ("demo_sea", "lite", "paper", *NAMED, 0, "image", "auroc", 0.9)
RUN = "demo_sea-lite"


def table(*rows):
    return pd.DataFrame(rows or [ROW], columns=list(SCORES))


def status(expected, found, runs=(RUN,), exact=()):
    return list(drift.compare(expected, found, runs, exact)["status"])


def test_nothing_moved():
    assert status(table(), table()) == ["same"]


def test_one_perturbed_number_fails():
    moved = table((*ROW[:-1], 0.9 - 0.02))
    assert status(table(), moved) == ["FAIL"]
    row = drift.compare(table(), moved, [RUN], [])
    assert row["moved"][0] == pytest.approx(-0.02) and "within 0.015" in row["reason"][0]


def test_a_last_digit_is_within_tolerance_on_another_platform_and_fails_on_the_same():
    moved = table((*ROW[:-1], 0.9 + 1e-12))
    assert status(table(), moved) == ["within"]
    assert status(table(), moved, exact=[RUN]) == ["FAIL"]


def test_a_missing_and_a_new_number_fail():
    other = table((*ROW[:-2], "ap", 0.9))
    found = drift.compare(table(), other, [RUN], [])
    assert list(found["status"]) == ["FAIL", "FAIL"]
    assert set(found["reason"]) == {"missing from this run", "not among the committed results"}


def test_a_run_that_was_not_made_here_is_skipped_not_failed():
    assert status(table(), table().iloc[:0], runs=["ssdd-resnet18"]) == ["SKIP"]


def test_rows_of_baselines_belong_to_their_own_run():
    assert drift.run_of("mstar", "resnet18", "padim") == "mstar-resnet18"
    assert drift.run_of("mstar", "resnet18", "dfm_resnet18") == "mstar-baselines"


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_every_committed_metric_has_a_tolerance(profile):
    committed = read_scores(ROOT / f"results/{profile}/scores.csv")
    levels = committed["level"].where(committed["level"] == "image", "pixel")
    assert set(zip(levels, committed["metric"], strict=True)) <= set(drift.TOLERANCES)
    assert all(allowed < 0.1 for allowed, _ in drift.TOLERANCES.values())


def test_the_same_bits_are_expected_only_of_the_same_versions_processor_and_threads():
    run = {"versions": {"torch": "2"}, "platform": "Linux", "device": "cpu", "device_name": "x"}
    assert drift.same_platform(run | {"parameters": {"threads": 1}}, run | {"parameters": {"threads": 1}})
    assert not drift.same_platform(run | {"parameters": {"threads": 1}}, run | {"parameters": {"threads": 2}})
    assert not drift.same_platform(run, run | {"device_name": "y"})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose demo results are committed, and which has run the demo."""
    for folder in ("results/demo", f"build/demo/score/{RUN}"):
        write_scores(table(), tmp_path / folder / "scores.csv")
    run = {"versions": {}, "platform": "", "device": "cpu", "device_name": "", "parameters": {}}
    write_json({"runs": {RUN: run}}, tmp_path / "results/demo/provenance.json")
    write_json(run, tmp_path / f"build/demo/score/{RUN}/provenance.json")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "results"], ["commit", "-q", "-m", "results"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(drift, "ROOT", tmp_path)
    return tmp_path


def test_the_command_compares_a_run_with_what_was_committed(project, capsys):
    assert drift.main("demo") == 0
    assert "1 same, 0 within, 0 SKIP, 0 FAIL" in capsys.readouterr().out
    write_scores(table((*ROW[:-1], 0.5)), project / f"build/demo/score/{RUN}/scores.csv")
    assert drift.main("demo") == 1
    out = capsys.readouterr().out
    assert "FAIL" in out and "0.900000 -> 0.500000" in out


def test_the_command_skips_a_profile_that_was_not_run(project, capsys):
    assert drift.main("paper") == 0
    assert capsys.readouterr().out.startswith("SKIP")
    assert read_json(project / "results/demo/provenance.json")

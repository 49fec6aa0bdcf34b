"""Score files: written, read back, and judged as other implementations judge them."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from evaluators.metrics import judged_metrics, video_metrics
from evaluators.score_files import main, rates_of, summary
from evaluators.scores import COLUMNS, FIRST_LINE, Scores, read_scores, write_scores
from searchspaces.cli import run_command
from searchspaces.errors import DatasetError

KINDS = ("live", "print", "replay")


def made(seed: int, people: int = 8, frames: int = 3, round_to: int = 12) -> Scores:
    """Noisy scores of videos: one of each kind a person."""
    random = np.random.default_rng(seed)
    kinds = np.repeat(np.tile(KINDS, people), frames)
    names = np.repeat([f"{seed}-{person}" for person in range(people)], len(KINDS) * frames)
    labels = (kinds == "live").astype(np.int64)
    level = np.where(kinds == "live", 0.9, np.where(kinds == "print", 0.0, 0.5))
    values = np.round(random.normal(level, 0.6), round_to)
    videos = np.array([f"{name}_{kind}" for name, kind in zip(names, kinds, strict=True)])
    return Scores(values, labels, kinds, names, videos, np.tile(np.arange(frames), len(KINDS) * people))


def by_hand(path: Path, unit: str) -> dict[str, float]:
    """The error rates of a score file with nothing of facenas: csv, loops, and every threshold tried."""
    rows: dict[str, dict[tuple[str, ...], list[float]]] = {"val": defaultdict(list), "test": defaultdict(list)}
    with path.open() as file:
        for number, row in enumerate(csv.DictReader((line for line in file if line[0] != "#"), delimiter="\t")):
            key = (row["video"], row["kind"]) if unit == "video" else (str(number), row["kind"])
            rows[row["split"]][key].append(float(row["score"]))
    points = {split: [(kind, sum(s) / len(s)) for (_, kind), s in own.items()] for split, own in rows.items()}

    def rates(split, threshold):
        live = [score for kind, score in points[split] if kind == "live"]
        attacks = [score for kind, score in points[split] if kind != "live"]
        return sum(s >= threshold for s in attacks) / len(attacks), sum(s < threshold for s in live) / len(live)

    ordered = sorted({score for _, score in points["val"]})
    between = [(a + b) / 2 for a, b in pairwise(ordered)]
    tried = [ordered[0] - 1e-6, *between, ordered[-1] + 1e-6]
    gaps = [abs(a - b) for a, b in (rates("val", threshold) for threshold in tried)]
    equal = [threshold for threshold, gap in zip(tried, gaps, strict=True) if gap <= min(gaps) + 1e-12]
    threshold = equal[len(equal) // 2]
    apcer, bpcer = rates("test", threshold)
    worst = max(
        sum(score >= threshold for k, score in points["test"] if k == kind) / sum(k == kind for k, _ in points["test"])
        for kind in KINDS[1:]
    )
    return {
        "threshold": threshold,
        "val_eer": sum(rates("val", threshold)) / 2,
        "apcer": apcer,
        "apcer_max": worst,
        "bpcer": bpcer,
        "acer": (apcer + bpcer) / 2,
        "acer_iso": (worst + bpcer) / 2,
        "hter": (apcer + bpcer) / 2,
    }


@pytest.mark.parametrize("unit", ["frame", "video"])
@pytest.mark.parametrize("seed", range(4))
def test_rates_of_a_file_are_those_counted_by_hand(seed, unit, tmp_path):
    path = write_scores(tmp_path / "a.tsv", {"val": made(seed, 6), "test": made(seed + 100, 9, round_to=1 + seed)})
    found = rates_of(str(path), read_scores(path), "test", unit)
    expected = by_hand(path, unit)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found["unit"] == unit and found["apcer_print"] + found["apcer_replay"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_rates_are_those_of_scikit_learn(seed):
    val, test = made(seed), made(seed + 50)
    found = rates_of("x", {"val": val, "test": test}, "test", "frame")
    (rejected, accepted_live), (passed, kept) = confusion_matrix(
        test.labels, test.values >= found["threshold"], labels=[1, 0]
    )[:, ::-1].tolist()
    assert found["bpcer"] == rejected / (rejected + accepted_live) and found["apcer"] == kept / (passed + kept)
    assert found["auc"] == pytest.approx(roc_auc_score(test.labels, test.values))
    far, tpr, _ = roc_curve(val.labels, val.values, drop_intermediate=False)
    closest = np.argmin(np.abs(far - (1 - tpr)))
    assert found["val_eer"] == pytest.approx((far[closest] + 1 - tpr[closest]) / 2)


def test_the_threshold_ignores_the_judged_split():
    val = made(0)
    thresholds = {rates_of("x", {"val": val, "test": made(seed)}, "test", "video")["threshold"] for seed in range(5, 9)}
    assert len(thresholds) == 1


def test_a_file_gives_back_every_number(tmp_path):
    val, test = made(1), made(2)
    odd = np.array([1 / 3, 1e-300, -7.25, np.nextafter(0.5, 1), *test.values[4:]])
    path = write_scores(tmp_path / "scores.tsv", {"val": val, "test": Scores(odd, *list(vars(test).values())[1:])})
    assert path.read_text().splitlines()[:2] == [FIRST_LINE, "\t".join(COLUMNS)]
    found = read_scores(tmp_path)  # a run folder
    assert list(found) == ["val", "test"] and (found["test"].values == odd).all()
    for name in ("labels", "kinds", "people", "videos", "frames"):
        assert (getattr(found["test"], name) == getattr(test, name)).all(), name


def test_pictures_that_stand_alone_have_no_videos(tmp_path):
    alone = [Scores(s.values, s.labels, s.kinds, s.people, None, s.frames * 0) for s in (made(1), made(2))]
    path = write_scores(tmp_path / "a.tsv", dict(zip(("val", "test"), alone, strict=True)))
    found = read_scores(path)
    assert found["val"].videos is None and rates_of("a", found, "test", "auto")["unit"] == "frame"
    with pytest.raises(DatasetError, match="no videos to judge"):
        rates_of("a", found, "test", "video")
    assert not any(name.startswith("video") for name in judged_metrics(found["test"], found["val"]))


def test_videos_are_judged_by_the_mean_and_told_by_type():
    val, test = made(3), made(4)
    found = judged_metrics(test, val)
    rates = rates_of("x", {"val": val, "test": test}, "test", "video")
    for name in ("apcer", "apcer_print", "apcer_replay", "apcer_max", "bpcer", "acer", "acer_iso", "hter", "eer"):
        assert found[f"video_{name}"]["value"] == rates[name], name
        assert found[f"video_{name}"]["low"] <= rates[name] <= found[f"video_{name}"]["high"]
    assert found["video_threshold"]["value"] == rates["threshold"] != found["threshold"]["value"]
    assert video_metrics(test, val).items() <= found.items()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no score file: its first line should be split video frame person kind score"),
        ("split\tscore\nval\t1\n", "is no score file: its first line"),
        ("\t".join(COLUMNS) + "\nval\tv\t0\tp\tlive\tnan\n", "not finite"),
        ("\t".join(COLUMNS) + "\nval\tv\t0\tp\tlive\thigh\n", "is no score file: could not convert"),
        ("\t".join(COLUMNS) + "\nval\tv\t0\tp\t\t0.5\n", "without split or kind"),
        ("\t".join(COLUMNS) + "\nval\tv\t0\tp\tlive\t0.5\textra\tmore\n", "is no score file"),
    ],
)
def test_files_that_are_none_are_refused(text, message, tmp_path):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_scores(tmp_path / "a.tsv")


def test_splits_that_cannot_be_judged_are_refused(tmp_path):
    whole = made(1)
    with pytest.raises(DatasetError, match="has no scores of 'val', only of test"):
        rates_of("a", {"test": whole}, "test", "auto")
    live = whole.labels == 1
    only = Scores(*(column[live] for column in vars(whole).values()))
    with pytest.raises(DatasetError, match="'val' are all live or all attacks"):
        rates_of("a", {"val": only, "test": whole}, "test", "auto")
    with pytest.raises(DatasetError, match="val has only one of them"):
        judged_metrics(whole, only)
    mixed = Scores(whole.values, whole.labels, whole.kinds, whole.people, np.full(len(live), "one"), whole.frames)
    with pytest.raises(DatasetError, match="'one' has frames of several kinds"):
        mixed.by_video()


def test_folds_have_a_mean_and_a_deviation(tmp_path, capsys):
    files = []
    for fold in range(3):
        files.append(str(write_scores(tmp_path / f"{fold}.tsv", {"val": made(fold), "test": made(fold + 10)})))
    assert run_command(main, [*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    errors = [found["files"][file]["acer"] for file in files]
    assert found["mean"]["acer"] == pytest.approx({"mean": np.mean(errors), "deviation": np.std(errors, ddof=1)})
    assert run_command(main, files) == 0
    said = capsys.readouterr().out
    assert (
        f"{100 * np.mean(errors):6.2f} +- {100 * np.std(errors, ddof=1):.2f} %" in said
        and said.count("(of videos)") == 3
    )
    assert run_command(main, [files[0], "--json", "--unit", "frame"]) == 0
    assert json.loads(capsys.readouterr().out)["unit"] == "frame"
    assert run_command(main, [str(tmp_path / "none.tsv")]) == 2
    assert summary([{"acer": 0.1}])["acer"] == {"mean": 0.1, "deviation": None}

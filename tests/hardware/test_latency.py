"""A device is learned from few measurements, with intervals that hold, on devices whose physics is known."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from hardware.accuracy import accuracy, cross_validate, judge
from hardware.gaussian import coefficient_covariance, coefficients, leave_one_out, log_likelihood
from hardware.latency import LatencyModel
from hardware.latency_fit import LEVELS, Prior, conformal_quantiles
from searchspaces.errors import CostError
from searchspaces.features import NAMES, Features, Kernel, feature_row, no_choices
from searchspaces.reference import REFERENCE_SPACES
from tests.hardware.synthetic_devices import DEVICES, measure, true_coefficients

SPACE = REFERENCE_SPACES["nasbench201"]
FBNET = REFERENCE_SPACES["fbnet"]
UNSEEN = SPACE.features(SPACE.random(2000, seed=99))


@pytest.mark.parametrize("device", DEVICES)
def test_ten_measurements_rank_well(device):
    truth = measure(UNSEEN, device, noise=0)
    found = []
    for seed in range(5):
        features = SPACE.features(SPACE.random(10, seed))
        model = LatencyModel.fit(features, measure(features, device, seed=seed))
        found.append(spearmanr(model.predict(UNSEEN).ms, truth)[0])
    assert np.mean(found) > 0.97


@pytest.mark.parametrize("device", DEVICES)
def test_hundreds_of_measurements_are_accurate(device):
    features = SPACE.features(SPACE.random(300, seed=1))
    model = LatencyModel.fit(features, measure(features, device))
    judged = accuracy(model.predict(UNSEEN).ms, measure(UNSEEN, device, noise=0))
    assert judged["within_10"] > 0.98 and judged["mape"] < 0.025 and judged["spearman"] > 0.99


def test_more_measurements_are_better_than_few():
    truth = measure(UNSEEN, "slow_memory", noise=0)
    errors = []
    for n in (10, 40, 300):
        fits = []
        for seed in range(5):
            features = SPACE.features(SPACE.random(n, seed))
            model = LatencyModel.fit(features, measure(features, "slow_memory", 0.08, seed))
            fits.append(accuracy(model.predict(UNSEEN).ms, truth)["mape"])
        errors.append(np.mean(fits))
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(("n", "draws"), [(20, 20), (60, 8), (300, 3)])
@pytest.mark.parametrize("noise", [0.03, 0.12])
def test_intervals_hold_as_often_as_they_say(n, draws, noise):
    found = []
    for seed in range(draws):
        features = SPACE.features(SPACE.random(n, seed))
        model = LatencyModel.fit(features, measure(features, "slow_start", noise, seed))
        found.append(judge(model, UNSEEN, measure(UNSEEN, "slow_start", noise, seed=1000 + seed))["coverage"])
    assert 0.85 < np.mean(found) < 0.96


def test_a_higher_level_is_a_wider_interval():
    features = SPACE.features(SPACE.random(60, seed=0))
    model = LatencyModel.fit(features, measure(features, "slow_start"))
    widths = [np.mean(np.subtract(p.high, p.low)) for p in (model.predict(UNSEEN, level) for level in LEVELS)]
    assert widths == sorted(widths) and widths[0] < 0.6 * widths[-1]
    assert all(np.all((p.low <= p.ms) & (p.ms <= p.high)) for p in (model.predict(UNSEEN, level) for level in LEVELS))


@pytest.mark.parametrize("n", [10, 200])
def test_no_coefficient_is_negative_and_more_work_is_never_faster(n):
    features = SPACE.features(SPACE.random(n, seed=3))
    # measurements that have nothing to do with the networks
    model = LatencyModel.fit(features, np.random.default_rng(0).uniform(1, 30, n))
    for treatment in model.treatments.values():
        assert (treatment.coefficients >= 0).all()
        more = UNSEEN.variants["executed"][:50] * 1.5
        assert (more @ treatment.coefficients >= UNSEEN.variants["executed"][:50] @ treatment.coefficients).all()
    assert (model.predict(UNSEEN).ms > 0).all() and (model.predict(UNSEEN).low >= 0).all()


def test_the_treatment_of_dead_branches_is_learned():
    features = SPACE.features(SPACE.random(40, seed=4))
    for truth, other in (("pruned", "executed"), ("executed", "pruned")):
        model = LatencyModel.fit(features, measure(features, "slow_arithmetic", variant=truth))
        assert model.treatments[truth].weight > 0.95
        assert other not in model.treatments or model.treatments[other].weight < 0.05


def test_one_absurd_measurement_changes_little():
    features = SPACE.features(SPACE.random(60, seed=5))
    y = measure(features, "slow_memory")
    spoiled = y.copy()
    spoiled[7] *= 20
    clean, robust = (LatencyModel.fit(features, values).predict(UNSEEN).ms for values in (y, spoiled))
    assert np.mean(np.abs(robust - clean) / clean) < 0.05


def test_what_a_place_adds_is_learned_from_many_measurements():
    features = FBNET.features(FBNET.random(900, seed=6))
    blocks = np.random.default_rng(1).uniform(0, 3, (22, 9))  # nothing that kernels could tell
    truth = blocks[np.arange(22), features.choices].sum(1)
    model = LatencyModel.fit(features[:600], truth[:600])
    assert spearmanr(model.predict(features[600:]).ms, truth[600:])[0] > 0.97
    assert np.mean(np.abs(model.predict(features[600:]).ms / truth[600:] - 1)) < 0.02


def kernels(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["conv", "pointwise", "elementwise", "pool"], n)
    rows = [
        feature_row([Kernel(kind, int(rng.uniform(1e5, 1e7)), *(int(rng.uniform(1e4, 1e6)) for _ in range(3)))])
        for kind in kinds
    ]
    x = np.array(rows)
    return x, x @ true_coefficients("slow_memory") * (1 + 0.03 * rng.standard_normal(n))


def test_kernels_alone_predict_networks_and_help_few_networks():
    x, ms = kernels(120, seed=0)
    truth = measure(UNSEEN, "slow_memory", noise=0)
    alone = LatencyModel.fit(kernels=x, kernel_ms=ms)
    assert accuracy(alone.predict(UNSEEN).ms, truth)["spearman"] > 0.98
    assert alone.kernels == 120 and alone.measurements == 0
    features = SPACE.features(SPACE.random(6, seed=7))
    y = 1.4 * measure(features, "slow_memory")  # networks are slower than the sum of their kernels
    both = LatencyModel.fit(features, y, kernels=x, kernel_ms=ms)
    without = LatencyModel.fit(features, y)
    error = {name: accuracy(model.predict(UNSEEN).ms, 1.4 * truth)["mape"] for name, model in
             (("both", both), ("without", without), ("alone", alone))}  # fmt: skip
    assert error["both"] < 0.06 and error["both"] < error["without"] and error["both"] < error["alone"]


def test_another_devices_profile_is_a_prior():
    features = FBNET.features(FBNET.random(300, seed=8))
    first = LatencyModel.fit(features, measure(features, "slow_memory"))
    few = SPACE.features(SPACE.random(6, seed=9))
    truth = 2 * measure(UNSEEN, "slow_memory", noise=0)
    y = 2 * measure(few, "slow_memory")
    with_prior = accuracy(LatencyModel.fit(few, y, prior=first).predict(UNSEEN).ms, truth)
    assert with_prior["spearman"] > 0.97


def test_prediction_takes_less_than_a_tenth_of_a_millisecond():
    features = FBNET.features(FBNET.random(1000, seed=10))
    model = LatencyModel.fit(features[:100], measure(features[:100], "slow_start"))
    start = time.process_time()
    model.predict(features)
    assert (time.process_time() - start) / 1000 < 1e-4


def test_a_profile_survives_its_file(tmp_path):
    features = SPACE.features(SPACE.random(80, seed=11))
    told = {"device": "phone", "runtime": "litert", "accuracy": {"spearman": 0.9}}
    model = LatencyModel.fit(features, measure(features, "slow_start"), provenance=told)
    again = LatencyModel.load(model.save(tmp_path / "phone.json"), space="nasbench201", runtime="litert")
    for name in ("ms", "low", "high"):
        np.testing.assert_allclose(
            getattr(again.predict(UNSEEN), name), getattr(model.predict(UNSEEN), name), rtol=1e-3
        )
    assert again.provenance == told and again.measurements == 80


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "Format 2"),
        ({"kind": "picture"}, "no latency profile"),
        ({"features": ["conv:hertz"]}, "conv:hertz"),
        ({"treatments": {"executed": {}}}, "no latency profile"),
    ],
)
def test_a_damaged_profile_is_refused(tmp_path, changes, message):
    features = SPACE.features(SPACE.random(20, seed=12))
    path = LatencyModel.fit(features, measure(features, "slow_start")).save(tmp_path / "p.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CostError, match=message):
        LatencyModel.load(path)


def test_profiles_of_another_space_or_runtime_are_refused(tmp_path):
    features = SPACE.features(SPACE.random(20, seed=13))
    model = LatencyModel.fit(features, measure(features, "slow_start"), provenance={"runtime": "ncnn"})
    path = model.save(tmp_path / "p.json")
    with pytest.raises(CostError, match="space 'nasbench201', not of 'fbnet'"):
        LatencyModel.load(path, space="fbnet")
    with pytest.raises(CostError, match="runtime 'ncnn', not of 'litert'"):
        LatencyModel.load(path, runtime="litert")
    with pytest.raises(CostError, match=r"nasbench201.*fbnet"):
        model.predict(FBNET.features(FBNET.random(1, 0)))
    with pytest.raises(CostError, match=r"level 0\.42"):
        model.predict(UNSEEN, level=0.42)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_values_that_are_no_latency_are_refused(bad):
    features = SPACE.features(SPACE.random(10, seed=14))
    y = measure(features, "slow_start")
    y[3] = bad
    with pytest.raises(CostError, match="Latency 4 of 10"):
        LatencyModel.fit(features, y)


def test_too_few_measurements_are_refused():
    features = SPACE.features(SPACE.random(4, seed=15))
    with pytest.raises(CostError, match="too few"):
        LatencyModel.fit(features, [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(CostError, match="nothing to fit"):
        LatencyModel.fit()


def test_cross_validation_says_when_it_cannot_judge():
    features = SPACE.features(SPACE.random(40, seed=16))
    y = measure(features, "slow_start")
    assert cross_validate(features, y)["spearman"] > 0.9
    assert "too few" in cross_validate(features[:8], y[:8])["method"]


# the arithmetic


def test_likelihood_is_that_of_the_normal_distribution_and_its_slope_is_right():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    half = rng.standard_normal((5, 5))
    parts = np.array([half @ half.T, np.eye(5)])
    residual = rng.standard_normal(5)
    value, slope = log_likelihood(residual, parts.sum(0), parts)
    assert value == pytest.approx(multivariate_normal(np.zeros(5), parts.sum(0)).logpdf(residual), abs=1e-6)
    step = 1e-5
    for i, part in enumerate(parts):
        more = log_likelihood(residual, parts.sum(0) + step * part, parts)[0]
        assert slope[i] == pytest.approx((more - value) / step, rel=1e-3, abs=1e-4)


def test_leave_one_out_is_what_refitting_gives():
    rng = np.random.default_rng(1)
    half = rng.standard_normal((6, 6))
    covariance, residual = half @ half.T + np.eye(6), rng.standard_normal(6)
    error, variance = leave_one_out(residual, covariance)
    rest = np.arange(1, 6)
    gain = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, 0])
    assert error[0] == pytest.approx(residual[0] - gain @ residual[rest])
    assert variance[0] == pytest.approx(covariance[0, 0] - gain @ covariance[rest, 0])


def test_coefficients_are_ridge_regression_unless_that_is_negative():
    rng = np.random.default_rng(2)
    x, prior, noise = rng.uniform(size=(30, 3)), np.diag([1.0, 2.0, 3.0]), 0.1 * np.eye(30)
    mean = np.array([1.0, 2.0, 3.0])
    y = x @ np.array([2.0, 0.5, 1.0])
    information = np.linalg.inv(prior) + x.T @ np.linalg.solve(noise, x)
    ridge = np.linalg.solve(information, np.linalg.solve(prior, mean) + x.T @ np.linalg.solve(noise, y))
    np.testing.assert_allclose(coefficients(x, y, mean, prior, noise), ridge, rtol=1e-5)
    np.testing.assert_allclose(
        coefficient_covariance(x, prior, noise), np.linalg.inv(information), rtol=1e-4, atol=1e-9
    )
    negative = coefficients(x, x @ np.array([2.0, -5.0, 1.0]), mean, prior, noise)
    assert negative[1] == 0 and (negative >= 0).all()


def test_quantiles_are_ranks_of_the_scores():
    quantiles = conformal_quantiles(np.arange(1.0, 100.0))
    assert quantiles[0.9] == 90 and quantiles[0.5] == 50
    assert conformal_quantiles(np.array([0.1, 0.2, 0.3]))[0.95] > 4  # Student's, with two degrees of freedom


def test_the_prior_is_the_same_for_every_device_and_kind():
    prior = Prior.roofline()
    assert prior.mean[NAMES.index("conv:mmac")] == prior.mean[NAMES.index("depthwise:mmac")] == 0.1
    for part in prior.covariances.values():
        assert (np.linalg.eigvalsh(part) > -1e-12).all()


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_carries_over_to_networks_of_another_space(device):
    """Learned on FBNet, told of inverted residuals that it has not seen: their ratios come out right."""
    features = FBNET.features(FBNET.random(300, seed=1))
    model = LatencyModel.fit(features, measure(features, device)).transferred("others")
    kernels = [
        [
            Kernel("pointwise", 6 * macs, size, 6 * size, 40_000),
            Kernel("depthwise", macs, 6 * size, 6 * size, 9_000),
            Kernel("pointwise", 6 * macs, 6 * size, size, 40_000),
        ]
        for macs, size in ((200_000, 25_000), (400_000, 50_000), (900_000, 70_000), (2_000_000, 200_000))
    ]
    rows = np.array([feature_row(network) for network in kernels])
    others = Features("others", {"executed": rows}, no_choices(len(rows)))
    truth, found = measure(others, device, noise=0), model.predict(others).ms
    assert np.abs(found / found[0] / (truth / truth[0]) - 1).max() < 0.25
    with pytest.raises(CostError, match="others"):
        model.predict(features)

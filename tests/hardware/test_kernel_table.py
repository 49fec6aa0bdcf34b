"""Kernels one by one: taken out of a runtime's file, timed, added up; and the profile that comes of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hardware import kernel_table, kernel_timing, learn
from hardware.devices import load_profile
from hardware.kernel_table import KernelTable, Measured, kernel_runtime
from hardware.latency import LatencyModel
from hardware.runtimes import calibration, get_runtime
from hardware.runtimes.kernels import QUANTITIES, RuntimeKernel
from searchspaces.cli import run_command
from searchspaces.errors import ConfigError, CostError

RUNTIMES = ("litert", "onnxruntime")
SIZE = (3, 24, 24)
SMALL = {"width": 0.1, "image_size": 32}


def network():
    """Equal layers twice, a strided convolution, a sum. 16 channels fill a vector, so that no runtime adds some."""
    torch.manual_seed(0)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
            self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))

        def forward(self, x):
            x = self.stem(x)
            return (self.second(self.first(x)) + nn.functional.max_pool2d(x, 3, 1, 1)).mean((2, 3))

    return Network().eval()


@pytest.fixture(scope="module", params=RUNTIMES)
def file(request, tmp_path_factory):
    runtime = kernel_runtime(request.param)
    path = tmp_path_factory.mktemp("files") / f"network{runtime.SUFFIX}"
    runtime.export(network(), SIZE, path)
    return request.param, path


def test_kernels_of_a_file(file):
    name, path = file
    kernels = kernel_runtime(name).kernels(path)
    convolutions = [kernel for kernel in kernels if "conv" in kernel.kind.lower()]
    assert len(convolutions) == 3
    macs = [kernel.quantities[QUANTITIES.index("macs")] for kernel in convolutions]
    assert macs == [144 * 16 * 27, 144 * 16 * 144, 144 * 16 * 144]
    strides = [kernel.quantities[QUANTITIES.index("stride")] for kernel in convolutions]
    assert strides == [2, 1, 1]
    # in ONNX Runtime the second one also adds the pooled map
    assert (convolutions[1].key == convolutions[2].key) == (name == "litert")


def test_the_same_network_has_the_same_keys(file, tmp_path):
    """Weights are no part of a key."""
    name, path = file
    runtime = kernel_runtime(name)
    other = network()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    again = runtime.export(other, SIZE, tmp_path / f"again{runtime.SUFFIX}")
    assert [one.key for one in runtime.kernels(again)] == [one.key for one in runtime.kernels(path)]


def test_a_kernel_alone_runs_with_any_number_of_copies(file, tmp_path):
    name, path = file
    runtime = kernel_runtime(name)
    for kernel in {one.key: one for one in runtime.kernels(path)}.values():
        for replicas in (1, 3):
            content = runtime.kernel_alone(kernel, replicas)
            runtime.runner(content, 1)()
            alone = tmp_path / f"alone{runtime.SUFFIX}"
            alone.write_bytes(content)
            if name == "litert":  # of ONNX Runtime's own operators no graph can be optimised again
                assert [one.key for one in runtime.kernels(alone)] == [kernel.key] * replicas


def test_a_kernel_alone_computes_what_it_did(tmp_path):
    """The first convolution of a LiteRT file, alone, against torch."""
    runtime, model = get_runtime("litert"), network()
    kernel = kernel_runtime("litert").kernels(runtime.export(model, SIZE, tmp_path / "network.tflite"))[0]
    (tmp_path / "alone.tflite").write_bytes(kernel_runtime("litert").kernel_alone(kernel, 2))
    loaded = runtime.load(tmp_path / "alone.tflite", 1)
    x = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(1))
    loaded.feed(x.numpy())
    loaded.invoke()
    with torch.no_grad():
        expected = model.stem(x).permute(0, 2, 3, 1).numpy()
    for found in loaded.outputs():
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_that_a_quantiser_wrote_behind_the_tables_are_weights(tmp_path):
    """A kernel of int8 whose weights were taken for an input would run in another kernel."""
    runtime = kernel_runtime("litert")
    model = nn.Sequential(nn.Conv2d(16, 96, 1), nn.ReLU6(), nn.Conv2d(96, 96, 3, padding=1)).eval()
    path = tmp_path / "int8.tflite"
    runtime.export_int8(model, (16, 12, 12), path, calibration.random_inputs((16, 12, 12), 2))
    convolutions = [kernel for kernel in runtime.kernels(path) if kernel.kind == "CONV_2D"]
    assert [kernel.quantities[QUANTITIES.index("inputs")] for kernel in convolutions] == [1, 1]
    weights = [kernel.quantities[QUANTITIES.index("weight_bytes")] for kernel in convolutions]
    assert weights == [16 * 96 + 4 * 96, 9 * 96 * 96 + 4 * 96]
    (tmp_path / "alone.tflite").write_bytes(runtime.kernel_alone(convolutions[1], 2))
    fallback = runtime.fallback(tmp_path / "alone.tflite")
    assert fallback is None or fallback.operators == 0


def test_runtimes_without_kernels_are_named():
    with pytest.raises(CostError, match="'ncnn' cannot be measured one by one"):
        kernel_runtime("ncnn")


# ---- the table, from simulated times


def simulated(number, count=40):
    """Kernels of a device that we know: their own milliseconds by a law that depends on kind and channels."""
    random = np.random.default_rng(number)
    kernels, ms = [], []
    for index in range(count):
        channels, pixels, window = random.integers(4, 64), random.integers(50, 4000), random.choice([1, 3, 5])
        kind = random.choice(["conv", "depthwise"])
        macs = pixels * channels * window**2 * (channels if kind == "conv" else 1)
        quantities = (macs, 4 * pixels * channels, 4 * pixels * channels, 4 * channels, window, 1, 1, 1)
        quantities = tuple(map(float, (*quantities, channels, channels, pixels, pixels)))
        kernels.append(RuntimeKernel(f"{kind} {index} of {number}", kind, quantities))
        ms.append(macs * (1e-7 if kind == "conv" else 4e-7) + 8 * pixels * channels * 1e-7 + 2e-3)
    return kernels, np.array(ms)


def device(networks=30, noise=0.01, seed=0, known=40):
    """Kernels, their times, networks of them, and the networks' times: 1.2 times the sum, 5 us between."""
    kernels, ms = simulated(1)
    random = np.random.default_rng(seed)
    members = [random.integers(0, len(kernels), random.integers(20, 120)) for _ in range(networks)]
    times = np.array([1.2 * ms[m].sum() + 0.005 * len(m) + 0.02 for m in members])
    times = times * random.normal(1, noise, networks)
    measured = {one.key: Measured(one.kind, one.quantities, float(t)) for one, t in zip(kernels, ms, strict=True)}
    kept = dict(list(measured.items())[:known])
    return kept, [[kernels[i] for i in m] for m in members], times


CONDITIONS = {"space": "pta", "runtime": "litert", "dtype": "float32"}


def fitted(count=15, **options):
    measured, networks, times = device(**options)
    table = KernelTable.fit(measured, 0.02, networks[:count], times[:count], **CONDITIONS)
    return table, networks[count:], times[count:]


def test_factor_and_gap_are_found():
    table, networks, times = fitted(noise=0)
    assert table.factor == pytest.approx(1.2, rel=1e-3) and table.gap_ms == pytest.approx(0.005, rel=1e-2)
    np.testing.assert_allclose(table.predict(networks).ms, times, rtol=1e-3)
    assert all(table.covered(one) == pytest.approx(1) for one in networks)


def test_few_networks_fit_one_factor_alone():
    table, networks, times = fitted(count=4)
    assert table.gap_ms == 0 and table.factor > 1.2
    assert np.mean(np.abs(table.predict(networks).ms / times - 1)) < 0.1


def test_intervals_hold_what_they_promise():
    """Over 100 simulated devices with a noise of 2 %: 90 % intervals hold about 90 % of new measurements."""
    inside = []
    for seed in range(100):
        table, networks, times = fitted(noise=0.02, seed=seed)
        found = table.predict(networks)
        inside.append(np.mean((found.low <= times) & (times <= found.high)))
    assert 0.86 <= np.mean(inside) <= 0.97


def test_a_kernel_that_was_not_measured_is_told_by_its_like():
    table, _, _ = fitted(known=40)
    others, ms = simulated(2)
    found = np.array([table.time_of(one) for one in others])
    assert np.median(np.abs(found / ms - 1)) < 0.25
    known, unknown = table.predict([[kernel] * 10 for kernel in (simulated(1)[0][0], others[0])], level=0.5).high
    assert table.covered([others[0]]) == 0
    wide, narrow = (table.predict([[one] * 10]) for one in (others[0], simulated(1)[0][0]))
    assert (wide.high - wide.low) / wide.ms > 2 * (narrow.high - narrow.low) / narrow.ms
    assert known > 0 and unknown > 0


def test_too_few_kernels_tell_nothing_of_others():
    table, _, _ = fitted()
    bare = replace(table, kernels=dict(list(table.kernels.items())[:5]))
    with pytest.raises(CostError, match="5 kernels, too few"):
        bare.predict([simulated(2)[0]])


def test_what_cannot_be_fitted_is_refused():
    measured, networks, times = device()
    with pytest.raises(CostError, match="at least 3"):
        KernelTable.fit(measured, 0.0, networks[:2], times[:2], **CONDITIONS)
    with pytest.raises(CostError, match="no positive number"):
        KernelTable.fit(measured, 0.0, networks[:3], [1.0, float("nan"), 2.0], **CONDITIONS)
    with pytest.raises(CostError, match="no longer than an inference without any kernel"):
        KernelTable.fit(measured, 5.0, networks[:3], [1.0, 2.0, 3.0], **CONDITIONS)
    table, networks, _ = fitted()
    with pytest.raises(CostError, match="learn the device for it"):
        table.predict_networks([], space="autofas")
    with pytest.raises(CostError, match=r"level 0\.7"):
        table.predict(networks, level=0.7)


def test_a_profile_survives_its_file(tmp_path):
    table, networks, _ = fitted()
    path = table.with_provenance(device="board").save(tmp_path / "p.json")
    again = load_profile(str(path), space="pta", runtime="litert")
    assert isinstance(again, KernelTable) and again.provenance["device"] == "board"
    np.testing.assert_allclose(again.predict(networks).high, table.predict(networks).high, rtol=1e-4)
    for what, wrong in (("space", {"space": "autofas"}), ("runtime", {"runtime": "ncnn"})):
        with pytest.raises(CostError, match=f"profile of {what}"):
            load_profile(str(path), **wrong)
    assert isinstance(load_profile("pixel3-fbnet"), LatencyModel)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2), ("quantities", ["macs"]), ("kernels", [["a", "b", [1.0], 2.0]]), ("kernels", {"a": 1}),
        ("kernels", [["a", "b", [float("inf")] * 12, 2.0]]), ("kernels", [["a", "b", [1.0] * 12, -2.0]]),
        ("factor", 0), ("factor", "fast"), ("overhead_us", -1), ("interval_quantiles", {"0.9": None}),
        ("threads", None), ("runtime", "os.path"), ("runtime", ["litert"]), ("threads", -3), ("dtype", "nope"),
        ("kernels", [["a", "b", [1e300] * 12, 2.0]]),
    ],
)  # fmt: skip
def test_a_damaged_profile_is_named(key, value, tmp_path):
    table, _, _ = fitted()
    content = {**table.to_dict(), key: value}
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(CostError, match=r"p\.json"):
        load_profile(str(tmp_path / "p.json"))


# ---- measured


def test_kernels_and_networks_are_timed(file):
    name, path = file
    kernels = list({one.key: one for one in kernel_runtime(name).kernels(path)}.values())
    timer = kernel_timing.ThisMachine(name, rounds=2)
    measured, overhead = kernel_timing.time_kernels(timer, name, kernels)
    assert set(measured) == {kernel.key for kernel in kernels}
    assert all(entry.ms > 0 for entry in measured.values()) and overhead >= 0
    (samples,) = kernel_timing.time_networks(name, [path], rounds=2)
    assert len(samples.cpu) == 10 and kernel_timing.summary([samples])[0] > 0


def test_a_kernel_that_does_not_run_alone_is_left_out(file):
    name, path = file
    kernels = list({one.key: one for one in kernel_runtime(name).kernels(path)}.values())

    class Partly:
        """A timer that cannot prepare the first files."""

        def __init__(self, broken):
            self.broken = broken

        def kernel_files(self, contents):
            return [None if number < self.broken else 1.0 for number in range(len(contents))]

    measured, _ = kernel_timing.time_kernels(Partly(1), name, kernels)
    assert set(measured) == {kernel.key for kernel in kernels[1:]}
    with pytest.raises(CostError, match="do not run alone"):
        kernel_timing.time_kernels(Partly(len(kernels)), name, kernels)
    with pytest.raises(CostError, match="failed"):
        kernel_timing.time_networks(name, [path.with_name("missing")])


def test_overhead_is_what_no_copy_would_take():
    assert kernel_timing.overhead_of([(0.6, 1.4), (0.7, 2.3)]) == pytest.approx(0.5)
    assert kernel_timing.overhead_of([(0.1, 2.0)]) == 0 == kernel_timing.overhead_of([])


@pytest.mark.parametrize(("runtime", "dtype"), [("litert", "int8"), ("onnxruntime", "float32")])
def test_learn_and_predict(runtime, dtype, tmp_path, capsys):
    """The commands, on a few small networks."""
    out = tmp_path / "here.json"
    numbers = ["--networks", "4", "--calibration", "3", "--held-out", "2", "--rounds", "2"]
    command = ["pta", "--space-options", json.dumps(SMALL), "--runtime", runtime, "--dtype", dtype, *numbers]
    assert run_command(learn.main, prog="learn", argv=[*command, "--out", str(out)]) == 0
    assert "2 held-out networks" in capsys.readouterr().out
    profile = json.loads(out.read_text())
    assert profile["runtime"] == runtime and profile["dtype"] == dtype and profile["device"]["cpu"]
    assert profile["accuracy"]["share_of_known_kernels"] > 0.9
    lines = tmp_path / "some.jsonl"
    lines.write_text("\n".join(json.dumps(json.loads(one.to_json())) for one in learn.draw("pta", SMALL, 2, 9)))
    from hardware import predict

    assert run_command(predict.main, prog="predict", argv=[str(lines), "--device-profile", str(out), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(0 <= row["low_ms"] < row["latency_ms"] < row["high_ms"] for row in rows)


def test_networks_of_several_widths():
    wide = {**SMALL, "width": 0.2}
    drawn = learn.draw_mixed("pta", [SMALL, wide], 9, 0)
    assert [one.options["width"] for one in drawn] == [0.1, 0.2] * 4 + [0.1]
    assert len({one.to_json() for one in learn.draw_mixed("pta", SMALL, 100, 0)}) == 27  # that is all of the space


def test_numbers_that_cannot_be_met(tmp_path):
    for wrong in ({"calibration": 2}, {"calibration": 9, "networks": 8}, {"rounds": 0}, {"held_out": -1}):
        with pytest.raises(ConfigError):
            learn.main("pta", out=str(tmp_path / "p.json"), **wrong)
    with pytest.raises(ConfigError, match="--out"):
        learn.main("pta")


def test_a_network_is_left_as_it_was(tmp_path):
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kernel_table.exported(model, SIZE, "litert", "int8", tmp_path)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(CostError, match="has no int8"):
        kernel_table.exported(model, SIZE, "ncnn", "int8", tmp_path)


def test_a_small_space_keeps_held_out_networks_apart(tmp_path, monkeypatch):
    """Of so few networks none is both calibrating and judging."""
    few = learn.draw("pta", SMALL, 8, 0)
    monkeypatch.setattr(learn, "draw_mixed", lambda *arguments: few)
    out = tmp_path / "p.json"
    learn.main("pta", out=str(out), rounds=1)
    profile = json.loads(out.read_text())
    assert profile["networks"] == 6 and profile["accuracy"]["method"] == "2 held-out networks"
    with pytest.raises(CostError, match="threads"):
        learn.main("pta", out=str(out), threads=0)


def test_a_damaged_litert_file_ends_in_one_line(tmp_path):
    """Random bytes of a file changed: its kernels, or a clear error."""
    name, path = "litert", get_runtime("litert").export(network(), SIZE, tmp_path / "network.tflite")
    random, content = np.random.default_rng(0), path.read_bytes()
    for number in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] = random.integers(0, 256)
        (tmp_path / "damaged.tflite").write_bytes(damaged)
        try:
            kernel_runtime(name).kernels(tmp_path / "damaged.tflite")
        except CostError as error:
            assert "damaged.tflite" in str(error), number


def test_transposes_of_a_square_map_are_different_kernels(tmp_path):
    class Turned(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.order = order

        def forward(self, x):
            return x.reshape(8, 8, 8).permute(self.order) * 2

    runtime, keys = kernel_runtime("litert"), []
    for order in ((0, 2, 1), (2, 1, 0)):
        path = runtime.export(Turned(order), (8, 8, 8), tmp_path / "network.tflite")
        keys.append({one.key for one in runtime.kernels(path) if one.kind == "TRANSPOSE"})
    assert keys[0] != keys[1]

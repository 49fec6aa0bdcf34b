"""Phones: a stand-in for adb runs the commands in this machine's shell, with a folder of its own as the phone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hardware import learn, measure, phone
from hardware.adb import Adb, connect, quoted
from hardware.phone import Run, measure_on_phone, phone_name
from hardware.phone_output import (
    PhoneState,
    drift,
    heat_warnings,
    litert_average_us,
    litert_peak_bytes,
    litert_placed,
    perf_test_rows,
    phone_state,
)
from hardware.phone_timing import PhoneTimer
from searchspaces.cli import run_command
from searchspaces.errors import ConfigError, CostError

from .cost_networks import save_architecture

SERIAL = "R58N-SECRET.1:5555"

# what benchmark_model prints, from a public report of a phone
LITERT_OUTPUT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 539 out of 548 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 19 partitions for \
subgraph 0.
INFO: The input model file size (MB): 3.06409
INFO: Initialized session in 92.318ms.
INFO: count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 median=200386 p95=235158
INFO: count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533
INFO: Inference timings in us: Init: 92318, First inference: 235158, Warmup (avg): 211669, Inference (avg): 145528
INFO: Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.4102
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.25
"""

ADB = r"""#!/bin/sh
echo "$*" >> "$FAKE_PHONE/calls"
[ "$1" = -s ] || exit 64
serial=$2; shift 2
case "$FAKE_ADB" in
  none) echo "error: no devices/emulators found" >&2; exit 1;;
  missing) echo "error: device '$serial' not found" >&2; exit 1;;
  unauthorized) printf 'error: device unauthorized.\nTry adb kill-server\nOtherwise check the dialog.\n' >&2; exit 1;;
  offline) [ "$1" = get-state ] && { echo offline; exit 0; };;
  full) [ "$1" = push ] && { echo "adb: error: failed to copy '$2': remote write failed: No space left on device" >&2
        exit 1; };;
  lost) [ "$1" = push ] && { echo "error: device '$serial' not found" >&2; exit 1; };;
esac
case "$1" in
  get-state) echo device;;
  push) cp "$2" "$(echo "$3" | sed "s#^/data/local/tmp#$FAKE_PHONE/tmp#")";;
  shell) line=$(echo "$2" | sed "s#/data/local/tmp#$FAKE_PHONE/tmp#g"); PATH="$FAKE_PHONE/bin:$PATH" sh -c "$line";;
  *) exit 65;;
esac
"""

PHONE_PROGRAMS = {
    "getprop": 'case "$1" in ro.product.model) echo "Pixel 3";; ro.board.platform) echo sdm845;; *) echo 12;; esac',
    "dumpsys": '[ "$1" = battery ] && echo "  temperature: 312" || echo "Thermal Status: 0"',
    "taskset": 'echo "taskset $1" >> "$FAKE_PHONE/calls"; shift; exec "$@"',
}


@pytest.fixture
def fake_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The phone's folder: ``calls`` lists what adb was told, ``tmp`` is /data/local/tmp, ``bin`` its programs."""
    folder = tmp_path / "phone"
    for name in ("tmp", "bin"):
        (folder / name).mkdir(parents=True)
    write_program(tmp_path / "host" / "adb", ADB)
    for name, content in PHONE_PROGRAMS.items():
        write_program(folder / "bin" / name, f"#!/bin/sh\n{content}\n")
    monkeypatch.setenv("FAKE_PHONE", str(folder))
    monkeypatch.setenv("PATH", f"{tmp_path / 'host'}:{os.environ['PATH']}")
    monkeypatch.setattr(phone, "STARTS", 3)
    return folder


def write_program(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.tflite"
    path.write_bytes(b"a network")
    return path


@pytest.fixture
def litert(tmp_path: Path) -> Path:
    """benchmark_model, as far as it is needed: it reads the network and prints what a real one printed."""
    text = f"""#!/bin/sh
for option; do case "$option" in --graph=*) grep -q "a network" "${{option#--graph=}}" || exit 3;; esac; done
cat <<'END'
{LITERT_OUTPUT}END
"""
    return write_program(tmp_path / "binary" / "benchmark_model", text)


@pytest.fixture
def perf_test(tmp_path: Path) -> Path:
    """onnxruntime_perf_test: writes a line for each run, the first ones slower, and prints its summary."""
    text = """#!/bin/sh
while [ $# -gt 2 ]; do [ "$1" = -r ] && runs=$2; shift; done
i=0; while [ $i -lt "$runs" ]; do
  seconds=0.00$((i % 3 + 2)); [ $i -lt 10 ] && seconds=0.5
  echo "model,$seconds,114634752,99,$i" >> "$2"; i=$((i + 1)); done
echo "Average inference time cost: 3.1 ms"
"""
    return write_program(tmp_path / "binary" / "onnxruntime_perf_test", text)


def calls(folder: Path) -> str:
    return (folder / "calls").read_text()


def test_litert_on_a_phone(fake_phone: Path, network: Path, litert: Path) -> None:
    (litert.parent / "libhelp.so").write_bytes(b"a library")
    row = measure_on_phone(connect(SERIAL), "litert", network, litert, Run(2, 5, 30, "f0"))
    assert row.error is None and row.latency is not None
    assert row.latency["median_ms"] == pytest.approx(145.528)
    assert (row.latency["clock"], row.latency["threads"], row.latency["repetitions"]) == ("wall", 2, 30)
    assert row.peak_memory_bytes == round(93.25 * 2**20)
    assert row.fallback == {"operators": 9, "total": 548, "mac_share": None, "names": []}
    assert row.warnings == ["median and percentiles are of 3 means of 10 runs"]
    told = calls(fake_phone)
    for part in ("--num_threads=2", "--num_runs=10", "--warmup_runs=5", "--use_xnnpack=true", "taskset f0", "libhelp"):
        assert part in told
    # the start that watches the memory is not one of those that are timed
    timed = [line for line in told.splitlines() if "--num_runs" in line and "report_peak" not in line]
    assert len(timed) == 3 and told.count("--report_peak_memory_footprint=true") == 1
    assert not list((fake_phone / "tmp").iterdir())


def test_a_phone_is_learned_kernel_by_kernel(
    fake_phone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A phone whose every file takes a nanosecond a byte: it runs the kernels and the networks of a small space."""
    monkeypatch.setattr("hardware.phone_timing.STARTS", 1)
    text = """#!/bin/sh
for option; do case "$option" in --graph=*) bytes=$(wc -c < "${option#--graph=}");; esac; done
[ "$bytes" = 0 ] && exit 3
us=$((bytes / 1000 + 1))
echo "INFO: Inference timings in us: Init: 9, First inference: 9, Warmup (avg): 9, Inference (avg): $us"
"""
    binary = write_program(tmp_path / "binary" / "benchmark_model", text)
    out = tmp_path / "phone.json"
    numbers = ["--networks", "4", "--calibration", "3", "--held-out", "2", "--rounds", "2"]
    phone_options = ["--adb", SERIAL, "--benchmark-binary", str(binary), "--cpu-mask", "f0"]
    command = ["pta", "--space-options", '{"width": 0.1, "image_size": 32}', *numbers, *phone_options]
    assert run_command(learn.main, argv=[*command, "--out", str(out)]) == 0
    profile = json.loads(out.read_text())
    assert profile["device"] == "Pixel 3 (sdm845, Android 12)" and SERIAL not in out.read_text()
    assert profile["protocol"]["cpu_mask"] == "f0" and profile["protocol"]["clock"] == "wall"
    assert len(profile["kernels"]) > 10 and "taskset f0" in calls(fake_phone) and "--num_runs=10" in calls(fake_phone)
    assert not list((fake_phone / "tmp").iterdir())
    assert run_command(learn.main, argv=[*command, "--out", str(out), "--runtime", "onnxruntime"]) == 2
    assert "--runtime litert" in capsys.readouterr().err


def test_a_kernel_that_the_phone_does_not_run_is_left_out(fake_phone: Path, litert: Path) -> None:
    timer = PhoneTimer(connect(SERIAL), litert, Run())
    assert timer.kernel_files([b"a network", b"of another kind", b"a network"]) == [145.528, None, 145.528]
    other = litert.parent / "other.tflite"
    other.write_bytes(b"other")
    with pytest.raises(CostError, match=r"does not run .*other\.tflite"):
        timer.networks([other])


def test_onnxruntime_on_a_phone(fake_phone: Path, tmp_path: Path, perf_test: Path) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(b"a network")
    row = measure_on_phone(connect(SERIAL), "onnxruntime", file, perf_test, Run(warmup=10, repetitions=27))
    assert row.latency is not None
    assert row.latency["median_ms"] == pytest.approx(3.0)  # without the slow runs of the warm-up
    assert (row.latency["repetitions"], row.latency["warmup"]) == (27, 10)
    assert row.peak_memory_bytes == 114634752
    assert "-x 1" in calls(fake_phone) and "-r 19" in calls(fake_phone)
    assert not list((fake_phone / "tmp").iterdir())


def test_command_reports_the_phone_but_not_its_serial(
    fake_phone: Path, tmp_path: Path, perf_test: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture, table = save_architecture(tmp_path), tmp_path / "m.csv"
    argv = [architecture, "--adb", SERIAL, "--benchmark-binary", perf_test, "--repetitions", 9, "--csv", table]
    assert run_command(measure.main, [str(value) for value in argv]) == 0
    printed = capsys.readouterr()
    assert "Device: Pixel 3 (sdm845, Android 12)" in printed.out
    line = table.read_text().splitlines()[1]
    assert "Pixel 3 (sdm845, Android 12)" in line and ",wall,9," in line
    assert SERIAL not in printed.out + printed.err + table.read_text()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("none", "No phone is connected, or its USB debugging is off"),
        ("missing", r"device '\(serial\)' not found. No phone with this serial"),
        ("unauthorized", "unlock it and accept"),
        ("offline", "plug it in again"),
    ],
)
def test_phone_that_cannot_be_used(fake_phone: Path, mode: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ADB", mode)
    with pytest.raises(CostError, match=message) as caught:
        connect(SERIAL)
    assert SERIAL not in str(caught.value)


def test_full_phone_is_told_and_cleaned(
    fake_phone: Path, network: Path, litert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = connect(SERIAL)
    monkeypatch.setenv("FAKE_ADB", "full")
    with pytest.raises(CostError, match=r"adb push failed: .*No space left on device. The phone's storage is full"):
        measure_on_phone(device, "litert", network, litert)
    assert not list((fake_phone / "tmp").iterdir())


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("echo 'CANNOT LINK EXECUTABLE: library libonnxruntime.so not found'; exit 1", "code 1: CANNOT LINK"),
        ("kill -SEGV $$", "ended with code 139"),
        ("echo 'ERROR: Failed to load model'", "gave no timing: ERROR: Failed to load model"),
        ("echo 'Inference timings in us: Init: 1, First inference: 1, Warmup (avg): 1, Inference (avg): 0'", "timing"),
        ("true", "gave no timing: it said nothing"),
    ],
)
def test_crashing_program_is_told_and_cleaned(
    fake_phone: Path, network: Path, tmp_path: Path, program: str, message: str
) -> None:
    binary = write_program(tmp_path / "binary" / "crash", f"#!/bin/sh\n{program}\n")
    with pytest.raises(CostError, match=message):
        measure_on_phone(connect(SERIAL), "litert", network, binary)
    assert not list((fake_phone / "tmp").iterdir())


def test_folder_that_could_not_be_removed_is_named(
    fake_phone: Path, network: Path, litert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(fake_phone / "bin" / "rm", "#!/bin/sh\necho rm: busy; exit 1\n")
    row = measure_on_phone(connect(SERIAL), "litert", network, litert)
    (left,) = (fake_phone / "tmp").iterdir()
    assert any(f"{left.name} is left on the phone: rm: busy" in warning for warning in row.warnings)


def test_nothing_is_injected(fake_phone: Path, tmp_path: Path, litert: Path) -> None:
    evil = tmp_path / "a;touch $FAKE_PHONE;`touch pwned` network.tflite;touch pwned"
    evil.write_bytes(b"a network")
    row = measure_on_phone(connect(SERIAL), "litert", evil, litert, Run(repetitions=3))
    assert row.latency is not None
    assert not Path("pwned").exists() and not (fake_phone / "pwned").exists()
    phone_ = Adb(SERIAL, connect(SERIAL).program)
    assert phone_.shell(quoted(["echo", "$(id); `id` && \"'x"])) == (0, "$(id); `id` && \"'x")
    assert phone_.shell("exit_code() { return 7; }; exit_code")[0] == 7


@pytest.mark.parametrize("serial", ["", "-e", "a b", "a;b", "$(id)", "a\nb", "x" * 200])
def test_what_is_no_serial_is_refused(fake_phone: Path, serial: str) -> None:
    with pytest.raises(ConfigError, match="--adb takes a serial number"):
        connect(serial)
    assert not (fake_phone / "calls").exists()


def test_wrong_use_is_refused(fake_phone: Path, network: Path, litert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = connect(SERIAL)
    with pytest.raises(ConfigError, match="no benchmark program for phones"):
        measure_on_phone(device, "ncnn", network, litert)
    with pytest.raises(ConfigError, match="No file"):
        measure_on_phone(device, "litert", network, litert.with_name("missing"))
    for mask in ("f0; reboot", "0xf0", "cores"):
        with pytest.raises(ConfigError, match="not hexadecimal"):
            Run(cpu_mask=mask)
    with pytest.raises(ConfigError, match="at least 1 thread"):
        Run(threads=0)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CostError, match="No program adb"):
        connect(SERIAL)


def test_adb_that_hangs_is_told(fake_phone: Path, tmp_path: Path) -> None:
    slow = write_program(tmp_path / "slow", "#!/bin/sh\nexec sleep 5\n")
    with pytest.raises(CostError, match="did not finish within"):
        Adb(SERIAL, str(slow)).run("get-state", seconds=0.05)


def test_output_of_benchmark_model() -> None:
    assert litert_average_us(LITERT_OUTPUT) == 145528
    assert litert_average_us("x Inference timings in us: Init: 1, Inference (avg): 1.5e+06") == 1.5e6
    assert litert_peak_bytes(LITERT_OUTPUT) == round(93.25 * 2**20)
    assert litert_peak_bytes("") is None
    assert litert_placed(LITERT_OUTPUT) == (9, 548)
    assert litert_placed("") is None


def test_output_of_perf_test() -> None:
    text = "a,b/network,0.5,1000,10,0\nnetwork,0.25,2000,10,1\n\nMin Latency is 0.25sec\n"
    assert perf_test_rows(text, 0) == ([0.5, 0.25], 2000)
    assert perf_test_rows(text, 1) == ([0.25], 2000)
    for bad, message in [("", "no timings"), ("n,x,1,1,0", "cannot be read"), ("n,0,1,1,0", "no timings")]:
        with pytest.raises(CostError, match=message):
            perf_test_rows(bad, 0)


def test_state_of_a_phone() -> None:
    battery = "Current Battery Service state:\n  level: 80\n  temperature: 312\n"
    state = phone_state(battery, "IsStatusOverride: false\nThermal Status: 2\n", "41500\n39\n-40000\n999999\n", "")
    assert state == PhoneState(31.2, 2, 41.5, 0)
    assert phone_state("", "", "", "1800000 2400000\n2400000 2400000\ncat: denied\n") == PhoneState(None, None, None, 1)


def test_heat_is_told() -> None:
    cool, hot = PhoneState(30.0, 0, 40.0, 0), PhoneState(34.0, 2, 80.0, 4)
    told = " ".join(heat_warnings(cool, hot))
    assert "thermal status 2" in told and "4 cores" in told and "from 30 to 34 °C" in told
    assert heat_warnings(cool, cool) == []
    assert heat_warnings(PhoneState(None, None, None, 0), PhoneState(None, None, None, 0)) == []
    assert drift([1.0, 1.0, 5.0, 2.0, 2.0]) == 2.0 and drift([1.0]) == 1.0


def test_phone_name(fake_phone: Path) -> None:
    assert phone_name(connect(SERIAL)) == "Pixel 3 (sdm845, Android 12)"

"""An application that keeps to a latency budget by switching a network's branches while it runs.

It needs numpy and onnxruntime only, and the folder that ``python -m hardware.deploy`` wrote::

    python docs/examples/switch_branches.py runs/pta/deploy --budget-ms 2.5
    python docs/examples/switch_branches.py runs/pta/deploy --budget-ms 2.5 --pictures faces.npy

The file of all configurations is loaded once. tiers.json tells which configuration should fit the budget; the
application's own clock then says whether it does on this machine, under the load of this moment.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

WINDOW = 15  # inferences whose median is compared with the budget
ROOM = 0.9  # of the budget: what a slower configuration has to fit into, so that it is not left again at once
PATIENCE = 4  # windows to wait before a configuration that proved too slow is tried again


class Switcher:
    """Runs a network and chooses its configuration after every `WINDOW` inferences."""

    def __init__(self, folder: Path, budget_ms: float, threads: int = 1) -> None:
        content = json.loads((folder / "tiers.json").read_text(encoding="utf-8"))
        self.tiers = sorted(content["tiers"], key=lambda tier: tier["budget_ms"])  # fastest first
        self.codes = content["configuration_input"]["codes"]
        self.budget_ms = budget_ms
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        path = str(folder / content["network"])
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.level = self.first_level()
        self.times: list[float] = []  # milliseconds since the last decision
        self.waiting = 0  # windows until a slower configuration may be tried

    def first_level(self) -> int:
        """What tiers.json promises to fit, else the fastest: the clock decides about the rest."""
        fitting = [level for level, tier in enumerate(self.tiers) if tier["budget_ms"] <= self.budget_ms]
        return max(fitting, default=0)

    @property
    def configuration(self) -> str:
        return self.tiers[self.level]["configuration"]

    def run(self, picture: np.ndarray, configuration: str | None = None) -> np.ndarray:
        """Logits of one picture (1, 3, H, W), RGB from -1 to 1, with the chosen configuration or with another one."""
        codes = np.array([self.codes[letter] for letter in configuration or self.configuration], np.int64)
        start = time.perf_counter()
        logits = self.session.run(None, {"input": picture, "configuration": codes})[0]
        if configuration is None:
            self.times.append((time.perf_counter() - start) * 1e3)
        return logits

    def decide(self) -> str:
        """Switch if the measured latency asks for it; a line that says so, else an empty one."""
        if len(self.times) < WINDOW:
            return ""
        measured, before = statistics.median(self.times), self.configuration
        self.times.clear()
        self.waiting = max(0, self.waiting - 1)
        if measured > self.budget_ms:
            self.waiting = PATIENCE
            if self.level == 0:
                return f"{before} takes {measured:.2f} ms, more than {self.budget_ms:g} ms, and nothing is faster"
            self.level -= 1
            return (
                f"{before} takes {measured:.2f} ms, more than {self.budget_ms:g} ms: switching to {self.configuration}"
            )
        if self.level + 1 < len(self.tiers) and not self.waiting:
            slower = self.tiers[self.level + 1]
            # what the slower one would take now: tiers.json knows the ratio, the clock knows this moment
            expected = measured * slower["budget_ms"] / self.tiers[self.level]["budget_ms"]
            if expected <= ROOM * self.budget_ms:
                self.level += 1
                return f"{before} takes {measured:.2f} ms, there is room: switching to {self.configuration}"
        return ""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Keep to a latency budget by switching branches.")
    parser.add_argument("folder", type=Path, help="what python -m hardware.deploy wrote")
    parser.add_argument("--budget-ms", type=float, required=True, help="milliseconds that one inference may take")
    parser.add_argument("--pictures", help="an .npy file (N, 3, H, W), float32 from -1 to 1; random ones by default")
    parser.add_argument("--frames", type=int, default=600, help="inferences in all")
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference")
    arguments = parser.parse_args(argv)

    if not (arguments.folder / "tiers.json").is_file():
        parser.error(f"{arguments.folder} has no tiers.json: give the folder that python -m hardware.deploy wrote")
    switcher = Switcher(arguments.folder, arguments.budget_ms, arguments.threads)
    size = switcher.session.get_inputs()[0].shape[1:]
    if arguments.pictures:
        pictures = np.load(arguments.pictures, allow_pickle=False).astype(np.float32)
    else:
        pictures = np.random.default_rng(0).uniform(-1, 1, (8, *size)).astype(np.float32)
    print(f"budget {arguments.budget_ms:g} ms: starting with {switcher.configuration}")
    counts: dict[str, int] = {}
    for frame in range(arguments.frames):
        switcher.run(pictures[frame % len(pictures)][None])
        counts[switcher.configuration] = counts.get(switcher.configuration, 0) + 1
        line = switcher.decide()
        if line:
            print(f"frame {frame}: {line}")
    print("inferences: " + ", ".join(f"{configuration} {number}" for configuration, number in counts.items()))


if __name__ == "__main__":
    main()

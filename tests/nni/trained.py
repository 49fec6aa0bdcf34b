"""A space and an evaluator that trials import, and a search with them in a process of its own."""

from __future__ import annotations

import sys
import time

import nni
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.strategy import RegularizedEvolution

from searchspaces import build_space
from strategies.nni_compat import NasExperiment

OPTIONS = {"channels": 4, "layout": "RN", "image_size": 20}


def count(model):
    """Reports the candidate's parameters, a little later."""
    number = sum(parameter.numel() for parameter in model.parameters())
    if number % 5 == 0:
        raise ValueError("a candidate that cannot be trained")
    time.sleep(1)
    nni.report_final_result({"default": -float(number), "parameters": float(number)})


def main(folder: str, port: int) -> None:
    config = NasExperimentConfig("ts", "simplified", "local")
    config.max_trial_number, config.trial_concurrency, config.trial_gpu_number = 6, 2, 0
    config.experiment_working_directory = folder
    strategy = RegularizedEvolution(population_size=3, sample_size=2, seed=1)
    experiment = NasExperiment(build_space("autofas", **OPTIONS), FunctionalEvaluator(count), strategy, config, id="ts")
    experiment.run_or_resume(port=port)
    print(experiment.export_top_models(1, formatter="dict")[0])
    experiment.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

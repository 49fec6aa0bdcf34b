"""The command ``python -m evaluators.trial``: one trial of an NNI experiment that searches a model space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from searchspaces import Architecture


def main(
    space: str = "autofas",
    space_options: dict[str, Any] | None = None,
    recipe: str = "quick",
    data: str | None = None,
    data_root: str | None = None,
    protocol: str | None = None,
    fold: int | None = None,
    data_seed: int = 0,
    people: int | None = None,
    supervision: Literal["pixel", "binary", "cross_entropy", "drmc", "identity"] | None = None,
    augmentation: Literal["crop", "colour", "pose", "deit", "dsfd"] | None = None,
    task_options: dict[str, Any] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device_profile: str | None = None,
    measure: bool = True,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    workers: int | None = None,
) -> None:
    """Train the network that an NNI experiment chose, as random search trains a candidate, and report what it costs.

    For trialCommand in the YAML file of an experiment whose search space is that of ``facenas nni-space SPACE``. Each
    epoch and the end report ``default``, the validation error (1 - AUC, for detectors 1 - AP), which the experiment
    minimises; ``milliseconds``, ``macs`` and ``parameters`` of the network.

    Args:
        space: the search space, or package.module:ClassName of your own.
        space_options: options of the space that differ from the recipe's, as facenas nni-space was given.
        recipe: hyper-parameters by name, quick or paper.
        data: the data set; by default the recipe's.
        data_root: the folder of the data set, for data sets that have one.
        protocol: of the data set, where it has several.
        fold: of the protocol, where it has several.
        data_seed: seed of generated data.
        people: how many people of the data set are used.
        supervision: what the loss compares; by default the recipe's.
        augmentation: of training pictures; by default the recipe's.
        task_options: of face detection or recognition, such as '{"margin": 0.35}'.
        epochs: that a candidate is trained for; by default the recipe's.
        seed: with the choices, the seed of weights and data order.
        device_profile: predict the milliseconds on this device: a file of hardware.fit or hardware.learn, or the name
            of a shipped profile.
        measure: measure the milliseconds here (ONNX Runtime, one thread) where there is no profile.
        accelerator: where to compute.
        workers: processes that read pictures.
    """
    from searchspaces import Architecture, build_space
    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError
    from searchspaces.nni_space import in_trial, to_choices

    from .nni_trial import next_parameters, output_folder, report_epoch, report_result
    from .recipes import find_recipe
    from .task import WeightSchedule
    from .tasks import build_task
    from .trial import CandidateTrial, candidate_seed

    if not in_trial():
        raise ConfigError(
            "evaluators.trial is a trial of an NNI experiment, which starts it: see experiments/*.yml and docs/nni.md."
        )
    found = find_recipe(space, recipe, data)
    options = {**found.search_space, **(space_options or {})}
    declared = build_space(space, **options)
    architecture = Architecture(
        space, options, to_choices(declared, next_parameters()), {"strategy": "nni", "seed": seed}
    )
    schedule = WeightSchedule(
        found.candidate_epochs if epochs is None else epochs,
        found.search_batch,
        found.search_learning_rate,
        weight_decay=found.weight_decay,
        optimizer=found.optimizer,
        decay=found.decay,
        gradient_clip=found.gradient_clip,
        warmup_steps=found.warmup_steps,
    )
    if schedule.epochs < 1:
        raise ConfigError(f"epochs is {epochs}, but must be at least 1.")
    task_settings = {
        "data": found.data,
        "data_root": data_root,
        "protocol": protocol,
        "fold": fold,
        "data_seed": data_seed,
        "people": found.people if people is None else people,
        "supervision": supervision or found.supervision,
        "augmentation": augmentation or found.augmentation,
        "task_options": task_options or {},
        "workers": workers,
    }
    architecture.save(output_folder() / "architecture.json")
    with quiet_libraries():
        cost = cost_of_trial(architecture, device_profile, measure)
        task = build_task(declared, task_settings, progress=False)
        trial = CandidateTrial(task, schedule, seed, accelerator=accelerator)
        figures = trial.judge(
            architecture.build(seed=seed),
            candidate_seed(seed, architecture.choices),
            lambda row: report_epoch({**row, **cost}, 1 - row[task.objective]),
        )
    report_result({**figures, **cost}, 1 - figures["default"])


def cost_of_trial(architecture: Architecture, device_profile: str | None, measure: bool) -> dict[str, float]:
    """``macs``, ``parameters`` and, unless nobody asks for it, ``milliseconds`` of a network.

    Raises:
        FacenasError: if it cannot be counted or measured, or the profile is of another space.
    """
    from hardware.devices import load_profile
    from hardware.profile import cost_of

    network = architecture.build(seed=0).eval()
    cost = cost_of(network, architecture.input_size, measure=measure and device_profile is None)
    found = {"macs": float(cost["operations"]["mac"]), "parameters": float(cost["parameters"]["stored"])}
    if device_profile is not None:
        profile = load_profile(device_profile)
        prediction = profile.predict_networks([(network, architecture.input_size)], space=architecture.space)
        found["milliseconds"] = float(prediction.ms[0])
    elif measure:
        found["milliseconds"] = float(cost["latency"][0]["median_ms"])
    return found

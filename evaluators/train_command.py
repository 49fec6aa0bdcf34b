"""The command ``python -m evaluators.train``: one architecture, trained from scratch and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def main(
    architecture: str,
    data: str | None = None,
    data_root: str | None = None,
    protocol: str | None = None,
    fold: int | None = None,
    train_data: str | None = None,
    test_data: str | None = None,
    test_data_root: str | None = None,
    test_protocol: str | None = None,
    data_seed: int | None = None,
    people: int | None = None,
    recipe: str = "quick",
    supervision: Literal["pixel", "binary", "cross_entropy", "drmc", "identity"] | None = None,
    augmentation: Literal["crop", "colour", "pose", "deit", "dsfd"] | None = None,
    task_options: dict[str, Any] | None = None,
    teacher: str | None = None,
    distillation: dict[str, Any] | None = None,
    out: str | None = None,
    seed: int = 0,
    epochs: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    space_options: dict[str, Any] | None = None,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    devices: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Train an architecture from scratch, reload the saved weights in a new process, and compare the metrics.

    Args:
        architecture: an architecture.json, or a run folder that holds one.
        data: the data set; that of the run which found the architecture, else the recipe's.
        data_root: the folder of the data set, for data sets that have one.
        protocol: of the data set, where it has several, such as 1 to 4 of oulu-npu; the run's, else the usual one.
        fold: of the protocol, where it has several.
        train_data: another name of data, for cross-testing.
        test_data: a data set for the test alone; the validation split of data chooses the threshold.
        test_data_root: its folder.
        test_protocol: its protocol.
        data_seed: seed of generated data; the run's, else 0.
        people: how many people of the data set are used; the run's, else from the recipe.
        recipe: hyper-parameters by name, quick or paper.
        supervision: what the loss compares; the run's, else the recipe's.
        augmentation: of training pictures; the run's, else the recipe's.
        task_options: of face detection or recognition, such as '{"margin": 0.5}'; the run's by default.
        teacher: a network to learn from too: a run folder, timm:NAME:WEIGHTS, or a file ending in .onnx.
        distillation: how, such as '{"alpha": 0.7, "temperature": 3}'; see evaluators.distillation.
        out: the run folder; runs/train-SPACE-SEED by default.
        seed: seed of the weights and the data order.
        epochs: from the recipe by default.
        batch: batch size; from the recipe by default.
        learning_rate: at the start of the cosine; from the recipe by default.
        space_options: options of the space that differ from the file's, for example '{"channels": 48}'.
        accelerator: where to compute.
        devices: GPUs, or processes on a CPU, that share every batch.
        resume: go on with the training in the folder.
        overwrite: replace the run in the folder.
    """
    from searchspaces import Architecture
    from searchspaces.errors import ConfigError

    from .datasets import import_builder

    if train_data is not None:
        if data not in (None, train_data):
            raise ConfigError(f"data is {data!r} and train_data {train_data!r}: they are the same. Give one of them.")
        data = train_data
    import_builder(data)
    given = Architecture.load(architecture)
    from .companions import check_devices  # heavy: after what can be wrong
    from .recipes import find_recipe
    from .task import WeightSchedule

    run = _run_options(Path(architecture)) if data is None else {}
    network = given.with_options(**space_options) if space_options else given
    defaults = find_recipe(network.space, recipe, data or run.get("data"))
    schedule = WeightSchedule(
        defaults.train_epochs if epochs is None else epochs,
        defaults.train_batch if batch is None else batch,
        defaults.train_learning_rate if learning_rate is None else learning_rate,
        weight_decay=defaults.weight_decay,
        optimizer=defaults.optimizer,
        decay=defaults.decay,
        gradient_clip=defaults.gradient_clip,
        keep=defaults.keep,
        warmup_steps=defaults.warmup_steps,
    )
    if schedule.epochs < 1 or schedule.batch_size < 1 or schedule.learning_rate <= 0:
        raise ConfigError("epochs and batch must be at least 1, and learning_rate above 0.")
    check_devices(devices, accelerator, schedule.batch_size)
    options = {
        "space": network.space,
        "data": defaults.data,
        "data_root": data_root or run.get("data_root"),
        **_protocol_options(run, protocol, fold, test_data, test_data_root, test_protocol),
        "data_seed": run.get("data_seed", 0) if data_seed is None else data_seed,
        "people": run.get("people", defaults.people) if people is None else people,
        "recipe": recipe,
        "supervision": supervision or run.get("supervision", defaults.supervision),
        "augmentation": augmentation or run.get("augmentation", defaults.augmentation),
        "task_options": run.get("task_options", {}) if task_options is None else task_options,
        "teacher": teacher,
        "distillation": distillation or {},
        "seed": seed,
        "epochs": schedule.epochs,
        "batch": schedule.batch_size,
        "learning_rate": schedule.learning_rate,
        "architecture": architecture,
    }
    folder = Path(out or f"runs/train-{network.space.rpartition(':')[2]}-{seed}")
    trainer_options = {"accelerator": accelerator, "devices": devices}
    _train(network, schedule, options, folder, trainer_options, resume=resume, overwrite=overwrite)


def _protocol_options(
    run: dict[str, Any],
    protocol: str | None,
    fold: int | None,
    test_data: str | None,
    test_data_root: str | None,
    test_protocol: str | None,
) -> dict[str, Any]:
    """What is trained and tested on: as given, else as in the run. Another protocol or test set has folds and a folder
    of its own."""
    own = protocol is None and fold is None
    other = test_data is not None or test_data_root is not None or test_protocol is not None
    return {
        "protocol": run.get("protocol") if protocol is None else protocol,
        "fold": run.get("fold") if own else fold,
        "test_data": test_data if other else run.get("test_data"),
        "test_data_root": test_data_root if other else run.get("test_data_root"),
        "test_protocol": test_protocol if other else run.get("test_protocol"),
    }


def _run_options(architecture: Path) -> dict[str, Any]:
    """The options of the run that an architecture file lies in; none if it lies alone."""
    from searchspaces.folder import CONFIG, read_config

    folder = architecture if architecture.is_dir() else architecture.parent
    return read_config(folder) if (folder / CONFIG).is_file() else {}


def _train(
    network: Any,
    schedule: Any,
    options: dict[str, Any],
    folder: Path,
    trainer_options: dict[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    from searchspaces import Architecture
    from searchspaces.console import Reporter, quiet_libraries, terminate_as_interrupt
    from searchspaces.errors import ConfigError
    from searchspaces.files import write_json
    from searchspaces.folder import open_run, read_config, write_config

    from .companions import companions
    from .tasks import build_task
    from .train import share_training, train_architecture

    def make_task() -> Any:
        return build_task(network.model_space(), options, student=network)

    if overwrite:
        make_task()  # fails before the earlier run is lost
    with open_run(folder, resume=resume, overwrite=overwrite), quiet_libraries(), terminate_as_interrupt():
        if resume:
            _check_same(options, read_config(folder))
            if Architecture.load(folder) != network:
                raise ConfigError(f"{folder} trains another architecture than the one given.")
            task = make_task()
        else:
            task = make_task()  # before anything is written: it may be refused
            write_config(folder, options)
            network.save(folder / "architecture.json")
        write_json(folder / "data.json", task.data.card)
        reporter, seed = Reporter(), options["seed"]
        shared = (network, options, schedule, folder, seed, resume, trainer_options)
        with (
            reporter.epochs("train", schedule.epochs) as show,
            companions(trainer_options["devices"], share_training, *shared),
        ):
            metrics = train_architecture(
                network,
                task,
                schedule,
                folder,
                seed,
                resume=resume,
                on_epoch=show,
                **trainer_options,
            )
    for name, metric in metrics.items():
        if metric["low"] is not None and metric["high"] is not None and metric["value"] is not None:
            interval = f"95 % interval {metric['low']:.3f} to {metric['high']:.3f}"
            reporter.line("test", f"{name:<14} {metric['value']:.3f}  {interval}")
    reporter.line("run", f"{folder}: weights.safetensors gives the same metrics in a new process")


def _check_same(options: dict[str, Any], saved: dict[str, Any]) -> None:
    from searchspaces.errors import ConfigError

    for name, value in options.items():
        if name != "architecture" and saved.get(name) != value:
            raise ConfigError(f"Option {name!r} is {value!r}, but the run was started with {saved.get(name)!r}.")

"""NNI's experiment and TPE with their defects mended, for our spaces and anybody's.

Each class names what NNI 3.0 does wrong; tests/nni/test_nni_defects.py fails when NNI does it right. Nothing of
NNI is patched for good: who uses NNI's own classes gets what NNI does. The defects of NNI's supernets (unordered
architecture parameters, a cost penalty without a gradient, ``none`` exported from cells) are not here: our strategies
have supernets of their own (`bilevel`, `cost`, `supernet`).
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import nni
import nni.nas.execution.training_service
import nni.nas.experiment
import numpy as np
from nni.nas.evaluator import Evaluator
from nni.nas.evaluator.pytorch import Lightning, Trainer
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.space import ModelStatus
from nni.nas.strategy import GridSearch
from nni.nas.strategy.evolution import Individual
from nni.nas.strategy.hpo import HPOTunerStrategy
from nni.nas.utils.serializer import Serializer, get_default_serializer, set_default_serializer
from nni.runtime.tuner_command_channel import TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import CommandType

from evaluators.checkpoint import EpochCheckpoint, go_on_after, latest_checkpoint
from searchspaces.errors import ConfigError, RunFolderError
from searchspaces.files import read_json, write_json
from searchspaces.nni_space import to_choices, to_parameters, to_search_space

from .nni_manager import check_port, manager_listens_on

TRIAL = "evaluators.nas_trial"
NOT_FOR_STRATEGIES = (CommandType.ImportData, CommandType.AddCustomizedTrialJob, CommandType.Ping)


class NasExperiment(nni.nas.experiment.NasExperiment):
    """NNI's experiment in Python, with any strategy, ours or NNI's.

    Its arguments are NNI's. What differs:

    - Trials get their own parameters (see `nni_trial.OwnParameterChannel`).
    - The state is saved after every candidate, and of a one-shot search after every epoch, not only at the end;
      ``run_or_resume`` goes on from there. It is JSON, and nothing in it is executed. NNI's own cannot be read back by
      torch 2.6 or later.
    - `results` holds all candidates, those before a resume too, and `export_top_models` chooses among them.
    - A Lightning evaluator starts anew for each candidate; NNI trains the second with a trainer that has finished.
    - A resumed experiment on a training service does not hang.
    - The manager is reachable from this machine alone, or at ``host``.
    - Without a configuration, candidates are trained one after another in this process.

    Args:
        host: one more address that the manager is reachable at, for trials on other machines.

    Raises:
        ConfigError: for a configuration that NNI would fail with later.
    """

    def __init__(
        self,
        model_space: Any,
        evaluator: Evaluator,
        strategy: Any,
        config: NasExperimentConfig | None = None,
        id: str | None = None,  # NNI's name
        *,
        host: str = "127.0.0.1",
    ) -> None:
        one_shot = is_one_shot(strategy)
        if config is None:
            config = NasExperimentConfig("sequential", "raw" if one_shot else "simplified", "local")
        engine, form = type(config.execution_engine).__name__, type(config.model_format).__name__
        sequential = engine.startswith("Sequential")
        if isinstance(strategy, GridSearch) and form.startswith("Raw"):
            raise ConfigError('NNI\'s GridSearch needs the model format "simplified"; it cannot freeze a raw space.')
        if not one_shot and sequential and isinstance(evaluator, Lightning):
            evaluator = FreshLightning(evaluator)
        config._trial_command_params = {"python": f"{sys.executable} -m {TRIAL}"}
        super().__init__(model_space, evaluator, strategy, config, id)
        self.host, self.one_shot = host, one_shot
        self.results: list[dict[str, Any]] = []
        self._metrics: dict[Any, Any] = {}
        self._listening = self._restored = False

    # ---- state

    @property
    def _results_file(self) -> Path:
        return Path(self._checkpoint_directory.parent) / "results.json"

    def save_checkpoint(self) -> None:
        """Save the state; also called before the start, when the strategy's own callbacks are in place."""
        if self._action == "resume" and not self._restored:
            return  # it failed before its state was read: do not write an empty one in its place
        if self._engine is not None and not self._listening:
            self._listening = True
            self._engine.register_model_event_callback(ModelEventType.FinalMetric, self._candidate_judged)
            self._engine.register_model_event_callback(ModelEventType.TrainingEnd, self._candidate_ended)
        with state_as_json():
            super().save_checkpoint()

    def load_checkpoint(self) -> None:
        """Restore the state.

        Raises:
            RunFolderError: if it is damaged, or of an experiment of another version.
        """
        file = self._checkpoint_directory / f"state.ckpt{JsonState.suffix}"
        if self._engine is not None and not file.exists():
            raise RunFolderError(
                f"The experiment {self.id!r} cannot go on: {file} is missing. An experiment that was started with "
                "NNI's own class, or by another version, cannot be resumed by this one."
            )
        with state_as_json():
            super().load_checkpoint()
        if self._engine is None:
            return
        if self._results_file.exists():
            self.results = read_json(self._results_file)
        if self.one_shot:
            self._resume_one_shot()
        self._restored = True

    def _candidate_judged(self, event: FinalMetricEvent) -> None:
        self._metrics[event.model] = event.metric  # whole; NNI keeps its ``default`` alone with the candidate

    def _candidate_ended(self, event: TrainingEndEvent) -> None:
        if not self.one_shot:
            model: Any = event.model
            status = "trained" if event.status == ModelStatus.Trained else "failed"
            metric = self._metrics.pop(model, None) if status == "trained" else None
            self.results.append({"choices": dict(model.sample or {}), "status": status, "metric": metric})
            write_json(self._results_file, self.results)
        self.save_checkpoint()

    def _resume_one_shot(self) -> None:
        checkpoint = latest_checkpoint(self._lightning_folder)
        if checkpoint is None:
            return
        evaluator = self.strategy._mutated_model_space.evaluator
        evaluator.fit_kwargs.update(ckpt_path=str(checkpoint), weights_only=True)
        loaders = evaluator.train_dataloaders
        all_loaders = list(loaders.values()) if isinstance(loaders, Mapping) else [loaders]
        go_on_after(checkpoint, *[loader for loader in all_loaders if hasattr(loader.sampler, "set_epoch")])

    @property
    def _lightning_folder(self) -> Path:
        return Path(self._checkpoint_directory) / "lightning"

    def export_top_models(self, top_k: int = 1, *, formatter: Any = None, **kwargs: Any) -> list[Any]:
        """The best candidates, NNI's ``dict`` and ``instance`` among all that this experiment has tried."""
        if not self.results or formatter not in ("dict", "instance"):
            return list(super().export_top_models(top_k, formatter=formatter, **kwargs))
        done = [result for result in self.results if result["status"] == "trained"]
        best = sorted(done, key=lambda result: default_of(result["metric"]), reverse=True)[:top_k]
        if formatter == "dict":
            return [result["choices"] for result in best]
        return [self.model_space.freeze(result["choices"]) for result in best]

    # ---- engines

    def execution_engine_factory(self, config: Any) -> Any:
        """NNI's engine, on a channel that survives a resume."""
        if self.one_shot and isinstance(self.evaluator, Lightning):
            callbacks = self.evaluator.trainer.callbacks
            if not any(isinstance(callback, EpochCheckpoint) for callback in callbacks):
                callbacks.append(EpochCheckpoint(self._lightning_folder, 0))
        module = nni.nas.execution.training_service
        with mock.patch.object(module, "TunerCommandChannel", ResumableChannel):
            return super().execution_engine_factory(config)

    def _start_nni_manager(self, port: int, *args: Any, **kwargs: Any) -> None:
        check_port(port)
        with manager_listens_on(self.host):
            super()._start_nni_manager(port, *args, **kwargs)


def is_one_shot(strategy: Any) -> bool:
    """Whether a strategy trains one network that holds all candidates."""
    from nni.nas.oneshot.pytorch.strategy import OneShotStrategy

    return isinstance(strategy, OneShotStrategy)


def default_of(metric: Any) -> float:
    """The figure of a metric that counts; more is better."""
    return float(metric["default"] if isinstance(metric, Mapping) else metric)


class ResumableChannel(TunerCommandChannel):
    """NNI's channel to its manager, but for the commands that strategies do not know: they are passed over.

    On a resume the manager sends the earlier results (ImportData). NNI's channel takes that for an error: the thread
    that listens ends, and the strategy waits for ever.
    """

    def _receive(self) -> Any:
        while True:
            kind, data = super()._receive()
            if kind not in NOT_FOR_STRATEGIES:
                return kind, data


class FreshLightning(Evaluator):
    """A Lightning evaluator that starts from the same state for every candidate.

    NNI's trains one candidate after another with one trainer: for the second its epochs are over, so nothing is
    trained, and the metrics that NNI looks for are missing.
    """

    def __init__(self, inner: Lightning) -> None:
        self.inner = inner
        self.module = copy.deepcopy(inner.module)  # as it was before any training

    def evaluate(self, model: Any) -> Any:
        """Train and judge one candidate, as the inner evaluator does."""
        inner = copy.copy(self.inner)
        inner.module = copy.deepcopy(self.module)
        inner.trainer = Trainer(**copy.deepcopy(self.inner.trainer.trace_kwargs))
        return inner.evaluate(model)

    def __repr__(self) -> str:
        return f"FreshLightning({self.inner!r})"


# ---- state as JSON


class JsonState(Serializer):
    """A strategy's and an engine's state as JSON: plain values, arrays, random generators' states and populations.

    NNI pickles it with torch, which since 2.6 refuses to read it back, as a pickle may run any code.
    """

    suffix = ".json"

    def save(self, checkpoint: Any, path: Path) -> None:
        """Write the state atomically.

        Raises:
            ConfigError: for a state that holds something else.
        """
        write_json(Path(f"{path}{self.suffix}"), encode(checkpoint))

    def load(self, path: Path) -> Any:
        """Read it back.

        Raises:
            RunFolderError: if the file is damaged.
        """
        file = Path(f"{path}{self.suffix}")
        try:
            return decode(read_json(file))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
            raise RunFolderError(f"The experiment's state {file} is damaged: {error}") from error


class state_as_json:  # noqa: N801  used as a function
    """Inside the block NNI reads and writes states as JSON."""

    def __enter__(self) -> None:
        self.before = get_default_serializer()
        set_default_serializer(JsonState())

    def __exit__(self, *ignored: Any) -> None:
        set_default_serializer(self.before)


KIND = "__kind__"
SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: Any) -> Any:
    """A state as JSON values.

    Raises:
        ConfigError: for a value of another kind.

    >>> decode(encode({"a": (1, {2}), "b": np.arange(2, dtype="uint32")}))
    {'a': (1, {2}), 'b': array([0, 1], dtype=uint32)}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {KIND: "dict", "items": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, Individual):
        return {KIND: "individual", "x": encode(value.x), "y": encode(value.y)}
    if isinstance(value, np.ndarray):
        return {KIND: "array", "dtype": value.dtype.name, "values": value.tolist()}
    for name, kind in SEQUENCES.items():
        if isinstance(value, kind):
            return {KIND: name, "items": [encode(item) for item in value]}
    raise ConfigError(f"The strategy's state holds a {type(value).__name__}, which cannot be saved as JSON: {value!r}")


def decode(value: Any) -> Any:
    """The reverse of `encode`.

    Raises:
        KeyError, TypeError, ValueError: for what `encode` does not give.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value[KIND]
    if kind == "dict":
        return {decode(key): decode(item) for key, item in value["items"]}
    if kind == "individual":
        return Individual(decode(value["x"]), decode(value["y"]))
    if kind == "array":
        return np.array(value["values"], dtype=np.dtype(value["dtype"]))
    return SEQUENCES[kind](decode(item) for item in value["items"])


# ---- tuners as strategies


class TunerStrategy(HPOTunerStrategy):
    """A tuner of NNI's experiments as a strategy, on any space.

    NNI's own fails on spaces with cells (a choice of several inputs has no form that tuners know) and forgets all
    results when it is resumed.

    Args:
        tuner: it must maximise, as NNI's strategies do.
    """

    def __init__(self, tuner: Any) -> None:
        super().__init__(tuner)
        self._told: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def _run(self) -> None:
        self.tuner.update_search_space(to_search_space(self.model_space))
        if self._told:
            self.tuner.import_data([dict(entry) for entry in self._told])
        while self.wait_for_resource():
            with self._lock:
                try:
                    parameters = self.tuner.generate_parameters(self._model_count)
                except nni.NoMoreTrialError:
                    break
                model = self.model_space.freeze(to_choices(self.model_space, parameters))
                self._model_to_id[model] = self._model_count
                self._model_count += 1
            self.engine.submit_models(model)
        self.engine.wait_models()

    def on_metric(self, event: Any) -> None:
        with self._lock:
            parameters = to_parameters(event.model.sample)
            self._told.append({"parameter": parameters, "value": event.metric})
            self.tuner.receive_trial_result(self._model_to_id[event.model], parameters, event.metric)

    def on_training_end(self, event: Any) -> None:
        with self._lock:
            self.tuner.trial_end(self._model_to_id.pop(event.model), event.status == ModelStatus.Trained)

    def state_dict(self) -> dict[str, Any]:
        return {"model_count": self._model_count, "told": self._told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._model_count, self._told = state_dict["model_count"], list(state_dict["told"])


class TPE(TunerStrategy):
    """The tree-structured Parzen estimator of NNI's experiments (Bergstra et al., 2011) as a strategy.

    NNI's own minimises by default what strategies maximise.

    Args:
        options: of ``nni.algorithms.hpo.tpe_tuner.TpeTuner``: ``seed`` and ``tpe_args``.
    """

    def __init__(self, **options: Any) -> None:
        from nni.algorithms.hpo.tpe_tuner import TpeTuner

        super().__init__(TpeTuner(**{"optimize_mode": "maximize", **options}))

"""What follows the search of a detector: besides the found one, the same detector without AutoFEM and one with a
random AutoFEM are trained the same way, so that the report can say what the search has brought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import to_dict
from .pipeline import Stages

if TYPE_CHECKING:
    from evaluators.task import Task
    from searchspaces import Architecture

WITHOUT, RANDOM = "without", "random"  # folders below the run's
NAMES = {WITHOUT: "without AutoFEM", RANDOM: "a random AutoFEM"}


class DetectorStages(Stages):
    """`Stages` with two references in place of a random search with the same budget."""

    @property
    def has_baseline(self) -> bool:
        return self.options.baseline  # of random search too: it is one draw, without a search

    def baseline(self, task: Task) -> None:
        """``without/`` and ``random/``: each a trained detector with its metrics and its cost."""
        for name, architecture in self.references().items():
            self._reference(name, architecture, task)

    def references(self) -> dict[str, Architecture]:
        """The detectors that the found one is shown beside, by folder."""
        from numpy.random import RandomState

        from searchspaces import Architecture, build_space
        from searchspaces.sampling import random_choices

        options = self._all_space_options()
        drawn = random_choices(build_space(self.options.space, **options), RandomState(self.options.seed))
        plain = {name: value for name, value in options.items() if name not in ("fpn", "cpm")}
        return {
            RANDOM: Architecture(self.options.space, options, drawn, {"strategy": "drawn at random"}),
            WITHOUT: Architecture("asfd", {**plain, "fpn": False, "cpm": False}, {}, {"strategy": "none"}),
        }

    def _reference(self, name: str, architecture: Architecture, task: Task) -> None:
        from evaluators.train import train_architecture
        from hardware.profile import cost_of
        from searchspaces.files import write_json
        from searchspaces.folder import write_config

        from .searches import train_schedule

        folder, options = self.folder / name, self.options
        if (folder / "cost.json").exists():
            return
        folder.mkdir(exist_ok=True)
        architecture.save(folder / "architecture.json")
        own: dict[str, Any] = {"space": architecture.space, "out": str(folder), "baseline": False}
        write_config(folder, {**to_dict(options), **own})
        schedule = train_schedule(options)
        with self.reporter.timed(self.seconds, name), self.reporter.epochs(name, schedule.epochs) as show:
            metrics = train_architecture(
                architecture,
                task,
                schedule,
                folder,
                options.seed,
                resume=True,
                verify=False,
                on_epoch=show,
                accelerator=options.accelerator,
            )
            network = architecture.build(weights=folder / "weights.safetensors").eval()
            write_json(folder / "cost.json", cost_of(network, architecture.input_size, folder=folder))
        self._write_provenance()
        self.reporter.line(name, f"{NAMES[name]}: {task.headline(metrics)}")

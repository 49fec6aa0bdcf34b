"""The stages of a network that is trained once and switched afterwards: PTA. In place of a training of the result,
all configurations are judged with the weights that they share, measured, and exported for an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import SinglePathOptions
from .pipeline import Stages

if TYPE_CHECKING:
    from evaluators.task import Task
    from searchspaces import Architecture

CONFIGURATIONS = "configurations.json"
REFERENCE = "mobilenet_v2"
REFERENCE_CONFIGURATION = "HHH"  # which is MobileNetV2, trained alone


class AdaptiveStages(Stages):
    """`Stages` of a sampled training on a space with ``trained_once``."""

    options: SinglePathOptions

    # ---- files

    def table(self) -> dict[str, Any]:
        """The content of configurations.json."""
        from searchspaces.files import read_json

        return read_json(self.folder / CONFIGURATIONS)

    def write_table(self, table: dict[str, Any]) -> None:
        """Replace configurations.json."""
        from searchspaces.files import write_json

        write_json(self.folder / CONFIGURATIONS, table)

    def network(self) -> Any:
        """The trained network with all branches, in evaluation mode."""
        from searchspaces import build_space
        from searchspaces.architecture import load_weights

        network = build_space(self.options.space, **self._all_space_options()).eval()
        load_weights(network, self.folder / "weights.safetensors")
        return network

    # ---- stages

    def search(self, task: Task) -> Architecture:
        """The configuration that the validation split prefers; weights of all branches, and the table of all
        configurations."""
        from searchspaces import Architecture

        self._write_provenance()
        if not (self.folder / "weights.safetensors").exists():
            with self.reporter.timed(self.seconds, "search"):
                self._train_paths(task)
            self._write_provenance()
        if not (self.folder / CONFIGURATIONS).exists():
            with self.reporter.timed(self.seconds, "judge"):
                self._judge(task)
            self._write_provenance()
        file = self.folder / "architecture.json"
        if not file.exists():
            table = self.table()
            row = next(row for row in table["rows"] if row["configuration"] == table["selected"])
            found_by = {"strategy": self.strategy, "seed": self.options.seed, "data": self.options.data}
            found_by |= {"selected_by": table["selected_by"], "configurations": len(table["rows"])}
            Architecture(self.options.space, table["options"], row["choices"], found_by).save(file)
        return Architecture.load(file)

    def _train_paths(self, task: Task) -> None:
        from evaluators.train import save_weights
        from hardware.counters import count

        from . import searches

        splits = task.data.splits
        validated = self.options.validated

        def validate(network: Any) -> dict[str, float]:
            before = network.configuration
            figures = task.validation(network.configure(validated), splits["val"])
            network.configure(before)
            return figures

        halves = (splits["train"], splits["val"])
        strategy = searches.train_paths(self.options, task, self.folder, self.reporter, halves, validate)
        module, network = strategy.oneshot_module, strategy.supernet
        macs_of = searches.trained_macs(self.options)
        loader = task.loader(splits["train"], searches.search_schedule(self.options).batch_size, 0)
        steps, pictures = searches.steps_and_pictures(loader)
        if module.table is None:
            macs = float(count(network.configure(validated), network.input_size))
        else:
            macs = searches.expected_macs(module.table, macs_of)
        self.provenance["search_macs"] = searches.WEIGHT_STEP * macs * steps * pictures * len(module.history)
        self.provenance["guard"] = {"verdict": "healthy", "reason": None}
        save_weights(network, self.folder / "weights.safetensors")

    def _judge(self, task: Task) -> None:
        """Every configuration on the validation and the test split, with what it costs."""
        from evaluators.configurations import acer_of, best_row, judge_configurations
        from hardware.counters import count, count_parameters
        from hardware.device import this_device
        from searchspaces.pta import CONFIGURATIONS as ALL
        from searchspaces.pta import REPORTED, choices_of

        network, options = self.network(), self.options
        order = [*REPORTED, *sorted(set(ALL) - set(REPORTED))]
        again = {"none": (), "reported": REPORTED, "all": order}[options.recalibrate]
        drawn = network.configurations() if options.uniform else options.sampling or network.sampling

        def show(row: dict[str, Any]) -> None:
            if row["configuration"] in REPORTED:
                other = f"; recalibrated {acer_of(row['recalibrated']['metrics'])}" if row["recalibrated"] else ""
                self.reporter.line("judge", f"{row['configuration']}  {acer_of(row['metrics'])}{other}")

        rows = judge_configurations(network, task, order, again, show)
        for row in rows:
            network.configure(row["configuration"])
            row["choices"] = choices_of(row["configuration"])
            row["parameters"] = count_parameters(network, network.input_size)["active"]
            row["mac"] = count(network, network.input_size)
            row["ptflops"] = count(network, network.input_size, "ptflops")
            row["trained"] = row["configuration"] in drawn
            row["latency"] = row["relative_latency"] = None
        test = task.data.splits["test"]
        data = {"name": task.data.name, "simulated": bool(task.data.card.get("simulated"))}
        best = best_row(rows)
        self.write_table(
            {
                "format": 1,
                "space": options.space,
                "options": self._all_space_options(),
                "selected": best["configuration"],
                "selected_by": "val_eer (equal: fewer MACs)",
                "sampling": dict.fromkeys(drawn, 1 / len(drawn)) if options.uniform else dict(drawn),
                "data": {**data, "people": len(set(test.people.tolist())), "pictures": len(test)},
                "device": this_device(),
                "rows": rows,
                "reference": None,
                "seconds": {},
            }
        )

    def train(self, architecture: Architecture, task: Task) -> None:
        """``metrics.json`` of the selected configuration, which a new process finds too in the saved weights."""
        from evaluators.train import compare_metrics, metrics_in_new_process
        from searchspaces.files import write_json

        if (self.folder / "metrics.json").exists():
            return
        table = self.table()
        row = next(row for row in table["rows"] if row["configuration"] == table["selected"])
        compare_metrics(row["metrics"], metrics_in_new_process(self.folder, self.options.space))
        write_json(self.folder / "metrics.json", row["metrics"])

    def baseline(self, task: Task) -> None:
        """MobileNetV2 trained alone with the same recipe, in the folder ``mobilenet_v2`` and beside the table."""
        from evaluators.configurations import acer_of
        from evaluators.train import train_architecture
        from searchspaces import Architecture
        from searchspaces.architecture import load_weights
        from searchspaces.folder import write_config
        from searchspaces.pta import choices_of

        from .options import to_dict
        from .searches import train_schedule

        table = self.table()
        if table["reference"] and "metrics" in table["reference"]:
            return
        options, folder = self.options, self.folder / REFERENCE
        folder.mkdir(exist_ok=True)
        architecture = Architecture(options.space, table["options"], choices_of(REFERENCE_CONFIGURATION))
        architecture.save(folder / "architecture.json")
        write_config(folder, to_dict(options))
        schedule = train_schedule(options)
        with (
            self.reporter.timed(self.seconds, REFERENCE),
            self.reporter.epochs("baseline", schedule.epochs) as show,
        ):
            metrics = train_architecture(
                architecture,
                task,
                schedule,
                folder,
                options.seed,
                resume=True,
                on_epoch=show,
                accelerator=options.accelerator,
            )
        network = architecture.build()
        load_weights(network, folder / "weights.safetensors")
        own = next(row for row in table["rows"] if row["configuration"] == REFERENCE_CONFIGURATION)
        table["reference"] = {
            **(table["reference"] or {}),
            "name": "MobileNetV2",
            "epochs": schedule.epochs,
            "seconds": self.seconds[REFERENCE],
            "val": task.validation(network.eval(), task.data.splits["val"]),
            "metrics": metrics,
            **{name: own[name] for name in ("parameters", "mac", "ptflops")},
        }
        self.write_table(table)
        self._write_provenance()
        self.reporter.line("baseline", f"MobileNetV2 trained alone: {acer_of(metrics)}")

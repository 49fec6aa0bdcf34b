"""The stages of a network that is trained once and switched afterwards: PTA. In place of a training of the result,
all configurations are judged with the weights that they share, measured, and exported for an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import SinglePathOptions
from .pipeline import Stages

if TYPE_CHECKING:
    from pathlib import Path

    from evaluators.task import Task
    from searchspaces import Architecture

CONFIGURATIONS = "configurations.json"
ROW = ("choices", "val", "metrics", "recalibrated", "parameters", "mac", "ptflops", "trained", "latency")
DEPLOY = "deploy"
REFERENCE = "mobilenet_v2"
REFERENCE_CONFIGURATION = "HHH"  # which is MobileNetV2, trained alone


class AdaptiveStages(Stages):
    """`Stages` of a sampled training on a space with ``trained_once``."""

    options: SinglePathOptions

    # ---- files

    def table(self) -> dict[str, Any]:
        """The content of configurations.json."""
        from hardware.deploy import read_configurations
        from searchspaces.errors import RunFolderError

        path = self.folder / CONFIGURATIONS
        content = read_configurations(path)
        lacking = [name for name in ("selected", "selected_by", "reference") if name not in content]
        for row in content["rows"]:
            lacking += [f"{name} of {row['configuration']}" for name in ROW if name not in row]
        if lacking:
            raise RunFolderError(
                f"{path} is damaged: it has no {lacking[0]}. Remove it, and --resume judges once more."
            )
        return content

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
            self._show_budget(row["choices"])
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
        from evaluators.configurations import best_row, judge_configurations
        from evaluators.metrics import percent_of
        from hardware.counters import profile_model
        from hardware.device import this_device
        from searchspaces.pta import CONFIGURATIONS as ALL
        from searchspaces.pta import REPORTED, choices_of

        from .budgets import build_budget

        network, options = self.network(), self.options
        order = [*REPORTED, *sorted(set(ALL) - set(REPORTED))]
        repeated = {"none": (), "reported": REPORTED, "all": order}[options.recalibrate]
        uniform = dict.fromkeys(network.configurations(), 1 / len(network.configurations()))
        drawn = uniform if options.uniform else options.sampling or network.sampling

        def show(row: dict[str, Any]) -> None:
            if row["configuration"] in REPORTED:
                own, again = percent_of("ACER", row["metrics"]["acer"]), row["recalibrated"]
                other = f"; recalibrated {percent_of('ACER', again['metrics']['acer'])}" if again else ""
                self.reporter.line("judge", f"{row['configuration']}  {own}{other}")

        rows = judge_configurations(network, task, order, repeated, show)
        for row in rows:
            network.configure(row["configuration"])
            row["choices"] = choices_of(row["configuration"])
            counted = profile_model(network, network.input_size)
            row["parameters"] = counted["parameters"]["active"]
            row |= {convention: counted["operations"][convention] for convention in ("mac", "ptflops")}
            row["trained"] = drawn.get(row["configuration"], 0) > 0
            row["latency"] = row["relative_latency"] = None
        test = task.data.splits["test"]
        data = {"name": task.data.name, "simulated": bool(task.data.card.get("simulated"))}
        budget = build_budget(options)
        best = best_row([row for row in rows if is_shown(row) and (budget is None or budget.keeps(row["choices"]))])
        self.write_table(
            {
                "format": 1,
                "space": options.space,
                "options": self._all_space_options(),
                "selected": best["configuration"],
                "selected_by": "val_eer (equal: fewer MACs) of what was trained or is reported in the paper",
                "sampling": dict(drawn),
                "data": {**data, "people": len(set(test.people.tolist())), "pictures": len(test)},
                "device": this_device(),
                "rows": rows,
                "reference": None,
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

    def measure(self, architecture: Architecture) -> None:
        """Costs of the selected configuration; the files in ``deploy``, and latencies relative to MobileNetV2."""
        super().measure(architecture)
        if (self.folder / DEPLOY / "tiers.json").exists() and self.table()["rows"][0]["latency"]:
            return
        from torchvision.models import mobilenet_v2

        from hardware.deploy import deploy_network

        table, network, folder = self.table(), self.network(), self.folder / DEPLOY
        reference = mobilenet_v2(num_classes=network.classes, width_mult=network.width).eval()
        with self.reporter.timed(self.seconds, "deploy"):
            rows, beside = deploy_network(
                network,
                table["rows"],
                folder,
                configurations=[row["configuration"] for row in table["rows"] if is_shown(row)],
                simulated=table["data"]["simulated"],
                beside={REFERENCE: reference},
            )
        latencies, base = {row["configuration"]: row["latency"] for row in rows}, beside[REFERENCE]
        for row in table["rows"]:
            row["latency"] = latencies.get(row["configuration"])
            row["relative_latency"] = row["latency"] and row["latency"]["median_ms"] / base["median_ms"]
        table["reference"] = {**(table["reference"] or {}), "name": "MobileNetV2", "latency": base}
        self.write_table(table)
        self._write_provenance()
        self.reporter.line("deploy", f"{folder}: one network with all configurations, slim ones, tiers.json")

    def report(self) -> None:
        """The table of the paper's configurations on the terminal, and the page."""
        self.reporter.console.print(summary_table(self.table()))
        super().report()

    def baseline(self, task: Task) -> None:
        """MobileNetV2 trained alone with the same recipe, in the folder ``mobilenet_v2`` and beside the table."""
        from evaluators.metrics import percent_of
        from evaluators.train import train_architecture
        from searchspaces import Architecture
        from searchspaces.architecture import load_weights
        from searchspaces.folder import write_config
        from searchspaces.pta import choices_of

        from .options import to_dict
        from .searches import search_schedule

        table = self.table()
        if table["reference"] and "metrics" in table["reference"]:
            return
        options, folder = self.options, self.folder / REFERENCE
        folder.mkdir(exist_ok=True)
        architecture = Architecture(options.space, table["options"], choices_of(REFERENCE_CONFIGURATION))
        architecture.save(folder / "architecture.json")
        write_config(folder, to_dict(options))
        schedule = search_schedule(options)  # as the sampled network was trained
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
            "seconds": training_seconds(folder / "training.csv"),
            "val": task.validation(network.eval(), task.data.splits["val"]),
            "metrics": metrics,
            **{name: own[name] for name in ("parameters", "mac", "ptflops")},
        }
        table["seconds"] = {"train": training_seconds(self.folder / "search.csv")}
        self.write_table(table)
        self._write_provenance()
        self.reporter.line("baseline", f"MobileNetV2 trained alone: {percent_of('ACER', metrics['acer'])}")


def training_seconds(log: Path) -> float:
    """What the epochs of a training took, without judging in between: the same for both networks, resumed or not."""
    import pandas as pd

    return round(float(pd.read_csv(log)["seconds"].sum()), 1)


def is_shown(row: dict[str, Any]) -> bool:
    """Whether a configuration is a candidate for use: training drew it, or the paper reports it."""
    from searchspaces.pta import REPORTED

    return row["trained"] or row["configuration"] in REPORTED


def summary_table(table: dict[str, Any]) -> Any:
    """A rich table: the paper's configurations from one set of weights, and MobileNetV2 trained alone."""
    from rich import box
    from rich.table import Table

    simulated = ", simulated attacks" if table["data"]["simulated"] else ""
    people = f"{table['data']['people']} people ({table['data']['name']}{simulated})"
    title = f"One network, trained once; error on {people}\n* selected on the validation split"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    headings = (
        "",
        "ACER, %\n95 % interval",
        "recalib-\nrated",
        "params\nM",
        "MACs\nM",
        "time\nms",
        "of Mobile-\nNetV2",
    )
    for index, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if index else "left", no_wrap=True)
    reference = table["reference"] or {}
    if "metrics" in reference:
        shown.add_row("MobileNetV2", *_summary_cells({**reference, "recalibrated": None, "relative_latency": 1.0}))
    for row in table["rows"]:
        if is_shown(row):
            mark = " *" if row["configuration"] == table["selected"] else ""
            shown.add_row(f"{row['configuration']}{mark}", *_summary_cells(row))
    return shown


def _summary_cells(row: dict[str, Any]) -> list[str]:
    acer, again = row["metrics"]["acer"], row["recalibrated"]
    value, low, high = (100 * acer[bound] for bound in ("value", "low", "high"))
    return [
        f"{value:.1f} ({low:.1f}-{high:.1f})",
        f"{100 * again['metrics']['acer']['value']:.1f}" if again else "-",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['mac'] / 1e6:.1f}",
        f"{row['latency']['median_ms']:.2f}",
        f"{row['relative_latency']:.2f}",
    ]

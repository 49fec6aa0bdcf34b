"""The tables of the papers, computed again: ``python -m reports papers --table pta-table4``.

A table that can be computed without training has an entry in `COMPUTED`; for one that lists what networks cost, that
is a `CostTable`. Heavy libraries are imported when something is computed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.naming import Registry

from .paper_asfd import asfd_table5
from .paper_catalog import ALL_TABLES, NEEDS
from .paper_faces import COMPUTED_HERE
from .paper_rates import DEVIATION
from .paper_structure import COMPUTED_TOO
from .paper_tables import NO_PTA, PTA_TABLE2, PTA_TABLE3, PTA_TABLE4, PTA_TABLE5, Column, PaperTable
from .papers_output import Block, Computed

if TYPE_CHECKING:
    from torch import nn

Networks = dict[str, tuple["nn.Module", tuple[int, ...]]]  # by row: the network and its input size
COMPUTED = Registry[Callable[[int], Computed]]("table that can be computed")  # from the number of timed runs
PROFILED: Mapping[str, Callable[[str], Computed]] = {"asfd-table5": asfd_table5}  # tables that have a ``--profile``


@dataclass(frozen=True)
class CostTable:
    """How a paper's table of costs is computed.

    Attributes:
        table: what the paper prints, with the columns ``parameters`` and ``operations`` in millions, and ``relative``.
        networks: builds the network of every row.
        convention: how the paper counts operations.
        times: its columns of milliseconds.
        reference: the row that ``relative`` is relative to.
        why_times: why milliseconds differ from the paper's.
        reasons: why a row's relative time differs, where more can be said.
        profiles: devices of the paper, or ones with their processor: the profile that predicts, and its column.
    """

    table: PaperTable
    networks: Callable[[], Networks]
    convention: str
    times: tuple[str, ...]
    reference: str
    why_times: str
    reasons: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, repetitions: int) -> Computed:
        from hardware.counters import count, count_parameters
        from hardware.device import this_device

        networks = self.networks()
        measured = measure_networks(networks, repetitions)
        base = measured[self.reference]["median_ms"]
        predicted = {title: predict_relative(networks, name, self.reference) for name, title in self.profiles.items()}
        rows = []
        for name, printed in self.table.rows.items():
            network, size = networks[name]
            ours = {
                "parameters": count_parameters(network, size)["active"],
                self.convention: count(network, size, self.convention),
                "mac": count(network, size),
                "latency": measured[name],
                "relative": measured[name]["median_ms"] / base,
                "predicted": {title: relative[name] for title, relative in predicted.items()},
            }
            rows.append({"row": name, "paper": dict(printed), "ours": ours, "remarks": self._remarks(name, ours)})
        blocks = (self._counts(rows), self._times(rows))
        return Computed(self.table, rows, blocks, self._notes(rows, repetitions), this_device())

    def _remarks(self, name: str, ours: Mapping[str, Any]) -> dict[str, str]:
        columns = (("parameters", "parameters"), ("operations", self.convention))
        counted = [text for column, key in columns if (text := count_deviation(self.table, name, column, ours[key]))]
        difference = 100 * (ours["relative"] / self.table.rows[name]["relative"] - 1)
        reason = (
            "the reference"
            if name == self.reference
            else self.reasons.get(name, "another processor, and a runtime that is not named")
        )
        noisy = "; noisy" if ours["latency"]["noisy"] else ""
        return {
            "counts": "; ".join(counted) or "none: equal as printed",
            "time": f"{difference:+.1f} %: {reason}{noisy}",
        }

    def _counts(self, rows: list[dict[str, Any]]) -> Block:
        headings = ("parameters, M: paper", "ours, exact", "multiply-adds, M: paper",
                    f"ours, exact ({self.convention})", "plain MACs, exact", "deviation")  # fmt: skip
        keys = ("parameters", self.convention, "mac")
        lines = [
            (
                row["row"],
                self._printed(row, "parameters"),
                f"{row['ours'][keys[0]]:,}",
                self._printed(row, "operations"),
                f"{row['ours'][keys[1]]:,}",
                f"{row['ours'][keys[2]]:,}",
                row["remarks"]["counts"],
            )
            for row in rows
        ]
        return Block("What the networks cost to store and to compute", ("row", *headings), lines)

    def _times(self, rows: list[dict[str, Any]]) -> Block:
        titles = [f"{self.table.columns[key].title}: paper" for key in self.times]
        afar = [f"relative: {title}" for title in self.profiles.values()]
        here = "here, ms: median (p25 to p75)"
        headings = ("row", *titles, here, "relative: paper", "relative: here", *afar, "deviation of here")
        lines = []
        for row in rows:
            latency = row["ours"]["latency"]
            spread = f"{latency['median_ms']:.3f} ({latency['p25_ms']:.3f} to {latency['p75_ms']:.3f})"
            printed = [self._printed(row, key) for key in self.times]
            relative = (self._printed(row, "relative"), f"{row['ours']['relative']:.3f}")
            predicted = [f"{value:.3f}" for value in row["ours"]["predicted"].values()]
            lines.append((row["row"], *printed, spread, *relative, *predicted, row["remarks"]["time"]))
        return Block("Time of one picture", headings, lines)

    def _printed(self, row: Mapping[str, Any], key: str) -> str:
        return f"{row['paper'][key]:.{self.table.columns[key].decimals}f}"

    def _notes(self, rows: list[dict[str, Any]], repetitions: int) -> list[str]:
        latency = rows[0]["ours"]["latency"]
        warmup = f"{repetitions} runs of each network after {latency['warmup']}"
        protocol = (
            f"Time here: {latency['runtime']} {latency['version']}, {latency['threads']} thread, {latency['dtype']}, "
            f"{'CPU' if latency['clock'] == 'cpu' else 'wall'} clock, {warmup} to warm up, all networks in turn."
        )
        order = "the order of their plain MACs" if _same_order(rows) else "another order than their plain MACs"
        notes = [protocol, self.why_times, f"Measured here, the networks come in {order}."]
        notes += [profile_note(name, title) for name, title in self.profiles.items()]
        if any(row["ours"]["latency"]["noisy"] for row in rows):
            notes.append("Some measurements are noisy: other work disturbed them. Repeat them on an idle machine.")
        return notes


def _same_order(rows: list[dict[str, Any]], slack: float = 0.02) -> bool:
    """Whether a network of fewer MACs is never measured slower, beyond what repeats by chance."""
    ordered = sorted(rows, key=lambda row: row["ours"]["mac"])
    times = [row["ours"]["latency"]["median_ms"] for row in ordered]
    return all(later >= earlier * (1 - slack) for i, earlier in enumerate(times) for later in times[i + 1 :])


def count_deviation(table: PaperTable, row: str, column: str, exact: int) -> str:
    """How a printed count, in millions, differs from the exact one when rounded, and why; empty if it does not.

    >>> count_deviation(PTA_TABLE4, "HHH", "parameters", 2226434)
    ''
    """
    shown = table.columns[column]
    printed, rounded = table.rows[row][column], round(exact / 1e6, shown.decimals)
    if printed == rounded:
        return ""
    slip = table.slip(row, column)
    known = f"a slip of the paper: {slip.why}" if slip and slip.correct == rounded else "not explained"
    return f"{shown.heading} are {rounded:.{shown.decimals}f}, not {printed:.{shown.decimals}f}: {known}"


def measure_networks(networks: Networks, repetitions: int) -> dict[str, dict[str, Any]]:
    """Time of each network in ONNX Runtime with one thread, side by side on this machine; `Latency` as a dict.

    Raises:
        CostError: if a network cannot be exported or run.
    """
    from hardware.runtimes import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        files = []
        for index, (network, size) in enumerate(networks.values()):
            files.append(onnxruntime.export(network, size, Path(folder) / f"{index}.onnx"))
        found = onnxruntime.measure_interleaved(files, repetitions=repetitions)
    return {name: latency.to_dict() for name, latency in zip(networks, found, strict=True)}


def predict_relative(networks: Networks, profile: str, reference: str) -> dict[str, float]:
    """Predicted time of each network over the reference's, by what a shipped profile knows of a device's kernels."""
    from hardware.devices import find_profile
    from hardware.kernels import features_of
    from hardware.latency import LatencyModel

    model = LatencyModel.load(find_profile(profile)).transferred("networks of a paper")
    found = model.predict(features_of("networks of a paper", networks.values())).ms
    base = found[list(networks).index(reference)]
    return {name: float(ms / base) for name, ms in zip(networks, found, strict=True)}


def profile_note(profile: str, title: str) -> str:
    """Where a predicted column comes from."""
    from hardware.devices import find_profile
    from searchspaces.files import read_json

    content = read_json(find_profile(profile))
    fitted = f"fitted to {content['measurements']} networks of the space {content['space']} ({content['source']})"
    return (
        f"Column {title!r}: predicted, not measured, by the profile {profile}, {fitted}. "
        "Only its coefficients for kernels carry over to these networks."
    )


def pta_networks() -> Networks:
    """The slim network of each row of Table 4; the one without PTA blocks is torchvision's own."""
    import torch
    from torchvision.models import mobilenet_v2

    from searchspaces import Architecture
    from searchspaces.pta import choices_of

    networks: Networks = {}
    for row in PTA_TABLE4.rows:
        if row == NO_PTA:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                networks[row] = (mobilenet_v2(num_classes=2), (3, 128, 128))
        else:
            architecture = Architecture("pta", {}, choices_of(row))
            networks[row] = (architecture.build(seed=0), architecture.input_size)
    return networks


COMPUTED.register("pta-table4")(
    CostTable(
        PTA_TABLE4,
        pta_networks,
        convention="ptflops",
        times=("sd845", "sd800"),
        reference=NO_PTA,
        why_times=(
            "The paper's milliseconds are of two phones, with a runtime that it does not name: compare the relative "
            "times, not the milliseconds."
        ),
        reasons={
            "HHH": "the very network of the reference, so this is what repeats by chance",
            "LHH": (
                "the paper's fastest of the three with one light block, although it has the most operations of them; "
                "the paper does not explain it"
            ),
        },
        profiles={"pixel3-fbnet": "Pixel 3 (SD845), predicted"},
    )
)


@COMPUTED.register("pta-table2")
def expected_operations(repetitions: int) -> Computed:
    """What an iteration of the sampled training costs on average, beside training MobileNetV2; nothing is timed."""
    from hardware.counters import count
    from searchspaces import Architecture
    from searchspaces.pta import choices_of

    rows: list[dict[str, Any]] = []
    for name, printed in PTA_TABLE2.rows.items():
        architecture = Architecture("pta", {}, choices_of(name))
        network, size = architecture.build(seed=0), architecture.input_size
        ours = {"ptflops": count(network, size, "ptflops"), "mac": count(network, size)}
        rows.append({"row": name, "paper": dict(printed), "ours": ours, "remarks": {}})
    heavy: dict[str, int] = rows[0]["ours"]
    expected = {key: sum(row["paper"]["probability"] * row["ours"][key] for row in rows) for key in heavy}
    lines: list[tuple[str, ...]] = [
        (row["row"], f"{row['paper']['probability']:.2f}", f"{row['ours']['ptflops']:,}", f"{row['ours']['mac']:,}")
        for row in rows
    ]
    mean = tuple(f"{expected[key]:,.0f} ({expected[key] / heavy[key]:.3f} of HHH)" for key in ("ptflops", "mac"))
    lines.append(("drawn, on average", "1.00", *mean))
    headings = ("row", "probability: paper", "multiply-adds, exact (ptflops)", "plain MACs, exact")
    saved = 100 * (1 - expected["ptflops"] / heavy["ptflops"])
    note = (
        f"Sampling saves {saved:.1f} % of the multiply-adds of a forward pass of MobileNetV2, while the paper's Table "
        "5 reports 12.5 % less training time: operations explain a part of it only."
    )
    rows.append({"row": "expected", "paper": {"probability": 1.0}, "ours": expected, "remarks": {}})
    return Computed(PTA_TABLE2, rows, (Block("Operations of a forward pass", headings, lines),), [note], None)


def printed_figure(column: Column, value: float | None, deviation: float | None = None) -> str:
    """A figure as a paper prints it, with its deviation over folds; or that it does not.

    >>> printed_figure(Column("APCER", "%", 1), 11.3, 7.3), printed_figure(Column("APCER", "%", 1), 0.83)
    ('11.3 ± 7.3', '0.83')
    """
    if value is None:
        return "not printed"
    text = f"{value:.{column.decimals}f}"
    text = text if float(text) == value else f"{value:g}"  # a single figure with more digits than its column
    return text if deviation is None else f"{text} ± {deviation:.{column.decimals}f}"


def iso_rows() -> dict[str, dict[str, float]]:
    """Table 3 of the PTA paper under ISO's names: its APCER and BPCER change places."""
    from evaluators.metrics import swap_error_names

    return {row: swap_error_names(values) for row, values in PTA_TABLE3.rows.items()}


def _how_to_get_ours(table: PaperTable) -> list[str]:
    if table in (PTA_TABLE3, PTA_TABLE5):
        return ["python -m reports RUN shows those of a run beside these."]
    needs = NEEDS[table.name]
    return [f"They need {needs.what}: {needs.command}"]


def printed_table(table: PaperTable) -> Computed:
    """A table that needs a trained network: the paper's figures alone, under ISO's names."""
    values, columns = iso_rows() if table is PTA_TABLE3 else table.rows, table.columns.items()
    lines = [
        (row, *(printed_figure(column, cells.get(key), cells.get(key + DEVIATION)) for key, column in columns))
        for row, cells in values.items()
    ]
    headings = ("row", *(f"{column.title}: paper" for column in table.columns.values()))
    notes = ["These are the paper's figures. Ours need a training.", *_how_to_get_ours(table)]
    if table is PTA_TABLE3:
        notes.append("APCER and BPCER are shown under ISO's names here: the paper's two columns have changed places.")
    rows = [{"row": row, "paper": dict(cells), "ours": {}, "remarks": {}} for row, cells in values.items()]
    return Computed(table, rows, (Block("The paper's figures", headings, lines),), notes, None)


COMPUTED.register("asfd-table5")(lambda repetitions: asfd_table5())
for _name, _compute in {**COMPUTED_HERE, **COMPUTED_TOO}.items():
    COMPUTED.register(_name)(_compute)


def compute(name: str, repetitions: int, profile: str | None = None) -> Computed:
    """A table of a paper by name, computed if that takes no training.

    Args:
        name: the table.
        repetitions: timed runs of each network, where something is timed.
        profile: reading of the paper, for a table of `PROFILED`.

    Raises:
        UnknownNameError: if no such table is known.
        ConfigError: for an unknown profile, or one that the table does not have.
        CostError: if a network cannot be counted, exported or measured.
    """
    from searchspaces.errors import ConfigError, UnknownNameError

    if name not in ALL_TABLES:
        raise UnknownNameError("table", name, ALL_TABLES)
    if profile is not None:
        if name not in PROFILED:
            raise ConfigError(f"--profile is of {' and '.join(PROFILED)}; {name} has none.")
        return PROFILED[name](profile)
    return COMPUTED[name](repetitions) if name in COMPUTED else printed_table(ALL_TABLES[name])

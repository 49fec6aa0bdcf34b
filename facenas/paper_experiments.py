"""The experiments of the anti-spoofing papers on licensed data, as lists of facenas' own commands.

Figures in `Row.paper` are the papers', in percent; none of them was reproduced with this project's data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from searchspaces.errors import ConfigError


class Roots(dict[str, str]):
    """Data set -> its prepared folder."""

    def __missing__(self, name: str) -> str:
        raise ConfigError(f"This table needs {name!r}, prepared by evaluators.prepare: give its folder with --{name}.")


FOLDS = {"1": (None,), "2": (None,), "3": tuple(range(1, 7)), "4": tuple(range(1, 7))}
OULU_COLUMNS = {
    "APCER": "video_apcer_max",
    "BPCER": "video_bpcer",
    "ACER": "video_acer_iso",
    "APCER, pooled": "video_apcer",
    "ACER, pooled": "video_acer",
}
HATFAS_COLUMNS = {"HTER at 0.5": "hter_argmax", "HTER": "hter", "EER": "eer", "HTER of videos": "video_hter"}
PTA_COLUMNS = {"accuracy": "accuracy", "APCER": "apcer", "BPCER": "bpcer", "ACER": "acer"}
# the released code's loss and its layers, see docs/hatfas.md
TAUGHT = json.dumps({"features": "repo", "tokens": "projected", "layers": [[4, 4], [6, 6], [8, 8]]})
STUDENT, TEACHER = "deit-tiny", "deit-base"


@dataclass(frozen=True)
class Step:
    """A command that fills a folder.

    Attributes:
        name: the folder below the experiment's.
        module: what ``python -m`` runs.
        arguments: without the folder and what all steps share; ``{NAME}`` is what the step NAME has made.
        done: the file in its folder that the command writes last; empty if it makes a file and no folder.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    done: str = "metrics.json"

    @property
    def searches(self) -> bool:
        return self.module.startswith("strategies.")


@dataclass(frozen=True)
class Row:
    """A row of a table: the steps whose metrics are averaged, and what the paper prints.

    Attributes:
        configuration: of a network that is switched after training, the one that is meant.
    """

    label: str
    steps: tuple[str, ...]
    paper: Mapping[str, str] = field(default_factory=dict)
    configuration: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        source: where it is printed. title: what it shows.
        needs: data sets, prepared.
        steps: from their folders, and an architecture if one was found already.
        columns: heading -> metric. rows: of the table.
        remarks: what is open, or differs.
    """

    source: str
    title: str
    needs: tuple[str, ...]
    steps: Callable[[Roots, str | None], list[Step]]
    columns: Mapping[str, str]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()


def data_arguments(roots: Roots, data: str, protocol: str | None = None, fold: int | None = None) -> tuple[str, ...]:
    """The options that name a data set and its protocol."""
    given = {"--data": data, "--data-root": roots[data], "--protocol": protocol, "--fold": fold}
    return tuple(text for name, value in given.items() if value is not None for text in (name, str(value)))


def oulu_name(protocol: str, fold: int | None, prefix: str = "p") -> str:
    """A folder's name: p1, p3-2."""
    return f"{prefix}{protocol}" + ("" if fold is None else f"-{fold}")


def oulu_rows(paper: Mapping[str, Mapping[str, str]], prefix: str = "p") -> tuple[Row, ...]:
    """A row a protocol, of all of its folds."""
    return tuple(
        Row(f"protocol {protocol}", tuple(oulu_name(protocol, fold, prefix) for fold in folds), paper.get(protocol, {}))
        for protocol, folds in FOLDS.items()
    )


def auto_fas_search(roots: Roots, name: str = "search", supervision: str | None = None) -> Step:
    """The paper's search: partial channels, protocol 1 of OULU-NPU."""
    more = ("--supervision", supervision) if supervision else ()
    arguments = ("--space", "autofas", *data_arguments(roots, "oulu-npu", "1"), "--no-baseline", *more)
    return Step(name, "strategies.pc_darts", arguments, "report.html")


def auto_fas_protocols(roots: Roots, found: str | None) -> list[Step]:
    """A search on protocol 1, and the network it found trained on all protocols."""
    steps = [
        Step(oulu_name(p, fold), "evaluators.train", (found or "{p1}", *data_arguments(roots, "oulu-npu", p, fold)))
        for p, folds in FOLDS.items()
        for fold in folds
    ]
    return steps if found else [auto_fas_search(roots, "p1"), *steps[1:]]


def auto_fas_cross(roots: Roots, found: str | None) -> list[Step]:
    """The same search, and the network trained on either of two sets and tested on the other."""
    pairs = (("casia-fasd", "replay-attack"), ("replay-attack", "casia-fasd"))
    trained = [
        Step(
            f"{train}-{test}",
            "evaluators.train",
            (found or "{search}", *data_arguments(roots, train), "--test-data", test, "--test-data-root", roots[test]),
        )
        for train, test in pairs
    ]
    return trained if found else [auto_fas_search(roots), *trained]


def auto_fas_supervision(roots: Roots, found: str | None) -> list[Step]:
    """A search with each supervision."""
    return [auto_fas_search(roots, name, name) for name in ("pixel", "binary")]


def pta_run(roots: Roots, found: str | None) -> list[Step]:
    """One network with all configurations, and MobileNetV2 beside it."""
    arguments = ("--space", "pta", *data_arguments(roots, "celeba-spoof"))
    return [Step("search", "strategies.single_path", arguments, "report.html")]


def taught(name: str, data: tuple[str, ...]) -> list[Step]:
    """A teacher, and a student that learns from it."""
    teacher = Step(f"teacher-{name}", "evaluators.train", (f"{{{TEACHER}}}", *data))
    student = (f"{{{STUDENT}}}", *data, "--teacher", f"{{teacher-{name}}}", "--distillation", TAUGHT)
    return [teacher, Step(name, "evaluators.train", student)]


def hatfas_networks() -> list[Step]:
    """The architecture files of both networks."""
    return [Step(name, "searchspaces.published", (name,), "") for name in (TEACHER, STUDENT)]


def hatfas_oulu(roots: Roots, found: str | None) -> list[Step]:
    """Teacher and student on every protocol and fold."""
    steps = hatfas_networks()
    for protocol, folds in FOLDS.items():
        for fold in folds:
            steps += taught(oulu_name(protocol, fold), data_arguments(roots, "oulu-npu", protocol, fold))
    return steps


def hatfas_small(roots: Roots, found: str | None) -> list[Step]:
    """Teacher and student on the two smaller sets."""
    sets = ("casia-fasd", "replay-attack")
    return [*hatfas_networks(), *(step for name in sets for step in taught(name, data_arguments(roots, name)))]


def _percent(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return dict(zip(names, values, strict=True))


AUTO_FAS = "Yu et al., Auto-FAS, ICASSP 2020"
HATFAS = "Zhang et al., HaTFAS, Applied Soft Computing 166, 2024"
ERRORS = ("APCER", "BPCER", "ACER")
SWAPPED = "the paper exchanges APCER and BPCER against ISO; they stand here under ISO's names"
WORST = "APCER is that of the worse attack type, as OULU-NPU's authors define it; the paper does not say"
PTA_ROWS = {  # Table 3, with both names exchanged
    "No PTA": ("96.74", "4.18", "1.07", "2.63"),
    "HHH": ("96.89", "4.12", "0.72", "2.42"),
    "LHH": ("96.84", "4.20", "0.70", "2.45"),
    "HLH": ("97.04", "3.88", "0.80", "2.34"),
    "HHL": ("97.83", "2.11", "2.30", "2.21"),
    "LLL": ("97.85", "1.98", "2.53", "2.26"),
    "BBB": ("97.49", "3.05", "1.21", "2.13"),
}

EXPERIMENTS: dict[str, Experiment] = {
    "auto-fas-1": Experiment(
        f"{AUTO_FAS}, Table 1",
        "OULU-NPU, protocols 1 to 4",
        ("oulu-npu",),
        auto_fas_protocols,
        OULU_COLUMNS,
        oulu_rows(
            {
                "1": _percent(ERRORS, ("12.1", "5.0", "8.5")),
                "2": _percent(ERRORS, ("19.4", "4.8", "12.1")),
                "3": _percent(ERRORS, ("11.3 +- 7.3", "9.2 +- 5.2", "10.2 +- 3.3")),
                "4": _percent(ERRORS, ("17.9 +- 9.8", "9.2 +- 9.7", "13.6 +- 7.5")),
            }
        ),
        (WORST, "the search is on protocol 1 (section 3.3); its network is trained anew on each"),
    ),
    "auto-fas-2": Experiment(
        f"{AUTO_FAS}, Table 2",
        "cross-testing of CASIA-FASD and Replay-Attack",
        ("oulu-npu", "casia-fasd", "replay-attack"),
        auto_fas_cross,
        {"HTER": "video_hter", "HTER of frames": "hter", "EER of videos": "video_eer"},
        (
            Row("CASIA-FASD to Replay-Attack", ("casia-fasd-replay-attack",), {"HTER": "15.6"}),
            Row("Replay-Attack to CASIA-FASD", ("replay-attack-casia-fasd",), {"HTER": "40.7"}),
        ),
        ("the threshold is of the training set's development part; the paper does not say", "searched on OULU-NPU"),
    ),
    "auto-fas-3": Experiment(
        f"{AUTO_FAS}, Table 3",
        "pixel-wise and binary supervision, OULU-NPU, protocol 1",
        ("oulu-npu",),
        auto_fas_supervision,
        OULU_COLUMNS,
        (
            Row("binary cross-entropy", ("binary",), _percent(ERRORS, ("12.5", "16.0", "14.2"))),
            Row("pixel-wise binary cross-entropy", ("pixel",), _percent(ERRORS, ("12.1", "5.0", "8.5"))),
        ),
        (WORST, "Table 4's cost of the network is in pixel/cost.json"),
    ),
    "pta-3": Experiment(
        "Khabarlak, PTA, CEUR-WS vol. 3156, 2022, Table 3",
        "CelebA-Spoof, intra-test",
        ("celeba-spoof",),
        pta_run,
        PTA_COLUMNS,
        tuple(Row(name, ("search",), _percent(tuple(PTA_COLUMNS), row), name) for name, row in PTA_ROWS.items()),
        (
            SWAPPED,
            "train and val share no person; the paper splits pictures",
            "Table 5's times are in configurations.json",
        ),
    ),
    "hatfas-oulu": Experiment(
        f"{HATFAS}, the table on OULU-NPU",
        "OULU-NPU, protocols 1 to 4",
        ("oulu-npu",),
        hatfas_oulu,
        HATFAS_COLUMNS,
        oulu_rows(
            {
                "1": {"HTER at 0.5": "0.25"},
                "2": {"HTER at 0.5": "1.43"},
                "3": {"HTER at 0.5": "1.39 +- 1.30"},
                "4": {"HTER at 0.5": "5.75 +- 4.45"},
            }
        ),
        ("the released code judges frames at 0.5", "teachers are trained from random weights, as the students are"),
    ),
    "hatfas-small": Experiment(
        f"{HATFAS}, the table on CASIA-FASD and Replay-Attack",
        "CASIA-FASD and Replay-Attack",
        ("casia-fasd", "replay-attack"),
        hatfas_small,
        HATFAS_COLUMNS,
        (
            Row("CASIA-FASD", ("casia-fasd",), {"EER": "0.20"}),
            Row("Replay-Attack", ("replay-attack",), {"EER": "0.00", "HTER": "0.00"}),
        ),
        ("EER is of the test part's frames; that of Replay-Attack's devel is told by evaluators.score_files",),
    ),
}

"""Which tables the five papers have, what their tables lack here, and errors that are known of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import paper_rates as rates
from .paper_tables import (
    AIRFACE,
    ASFD_TABLE5,
    HATFAS,
    PAPER_TABLES,
    PTA_TABLE2,
    PTA_TABLE3,
    PTA_TABLE4,
    PTA_TABLE5,
    PaperTable,
)

TABLES_OF: Mapping[str, tuple[PaperTable, ...]] = {
    "Auto-FAS": (rates.AUTO_FAS_TABLE1, rates.AUTO_FAS_TABLE2, rates.AUTO_FAS_TABLE3, rates.AUTO_FAS_TABLE4),
    "PTA": (rates.PTA_TABLE1, PTA_TABLE2, PTA_TABLE3, PTA_TABLE4, PTA_TABLE5),
    "ASFD": (
        rates.ASFD_TABLE1, rates.ASFD_TABLE2, rates.ASFD_TABLE3, rates.ASFD_TABLE4, ASFD_TABLE5, rates.ASFD_RATIOS,
    ),
    "AirFace": (rates.AIRFACE_TABLE1, AIRFACE, rates.AIRFACE_TABLE2, rates.AIRFACE_TABLE3, rates.AIRFACE_TABLE4),
    "HaTFAS": (rates.HATFAS_NETWORKS, HATFAS, rates.HATFAS_SMALL, rates.HATFAS_OULU, rates.HATFAS_TEACHING),
}  # fmt: skip
ALL_TABLES = {table.name: table for tables in TABLES_OF.values() for table in tables}
assert ALL_TABLES.keys() >= PAPER_TABLES.keys()

WIDER = "WIDER FACE, and a training of every row's detector"
TRAIN_WIDER = "python -m evaluators.train RUN --data wider-face --data-root FOLDER --recipe paper"
FACES = "MS1M-retina or CASIA-WebFace, and the verification sets"
TRAIN_FACES = "python -m evaluators.train RUN --data packed --data-root FOLDER"


@dataclass(frozen=True)
class Needs:
    """What the figures that are not ours need.

    Attributes:
        what: data, device or training that is missing here.
        command: for those who hold it.
    """

    what: str
    command: str = ""


def _reproduced(experiment: str, what: str, *data: str) -> Needs:
    command = f"python -m facenas.reproduce {experiment} {' '.join(f'--{name} FOLDER' for name in data)}"
    return Needs(f"{what}, and a training", command)


OULU = "OULU-NPU (licensed)"
NEEDS: Mapping[str, Needs] = {
    "auto-fas-table1": _reproduced("auto-fas-1", OULU, "oulu-npu"),
    "auto-fas-table2": _reproduced(
        "auto-fas-2", "OULU-NPU, CASIA-FASD and Replay-Attack (licensed)", "oulu-npu", "casia-fasd", "replay-attack"
    ),
    "auto-fas-table3": _reproduced("auto-fas-3", OULU, "oulu-npu"),
    "auto-fas-table4": _reproduced("auto-fas-3", f"ACER: {OULU}", "oulu-npu"),
    "pta-table3": _reproduced("pta-3", "CelebA-Spoof (licensed)", "celeba-spoof"),
    "pta-table4": Needs(
        "milliseconds: a phone with a Snapdragon 845 or 800", "python -m hardware.measure RUN --adb SERIAL"
    ),
    "pta-table5": _reproduced("pta-3", "CelebA-Spoof (licensed), a GTX 1050 Ti", "celeba-spoof"),
    "asfd-table2": Needs(WIDER, TRAIN_WIDER),
    "asfd-table3": Needs(WIDER, TRAIN_WIDER),
    "asfd-table4": Needs(WIDER, TRAIN_WIDER),
    "asfd-table5": Needs(f"AP: {WIDER}; latency: a Tesla P40", TRAIN_WIDER),
    "airface-table2": Needs(FACES, TRAIN_FACES),
    "airface-table3": Needs(FACES, TRAIN_FACES),
    "airface-table4": Needs(f"rates: {FACES} and MegaFace", TRAIN_FACES),
    "hatfas-small": _reproduced(
        "hatfas-small", "CASIA-FASD and Replay-Attack (licensed)", "casia-fasd", "replay-attack"
    ),
    "hatfas-oulu": _reproduced("hatfas-oulu", OULU, "oulu-npu"),
    "hatfas-teaching": _reproduced("hatfas-oulu", OULU, "oulu-npu"),
}  # fmt: skip

# errors that the papers have, by table and row; those of single figures that have a right value are slips
KNOWN_ERRORS: Mapping[str, Mapping[str, str]] = {
    "auto-fas-table1": {
        "protocol 4: Auxiliary": "the mean of 9.3 and 10.4 is 9.85, not 9.5, and means over folds must agree",
    },
    "auto-fas-table4": {
        "Auto-FAS": "the text calls it the most efficient by parameters and GFLOPS, but ResNet-18 is printed with "
        "fewer GFLOPS",
    },
    "pta-table3": {
        "LHH": "the text's 53 % less APCER is 1.07 / 0.70 - 1; as a reduction it is 34.6 %",
        "BBB": "the text's 23.5 % less ACER is 2.63 / 2.13 - 1; as a reduction it is 19.0 %",
    },
    "pta-table4": {
        "LHH": "the text says that it is 4.72 ms slower than HLH on the Snapdragon 800; the table has it "
        "4.72 ms faster",
    },
    "pta-table5": {"MobileNetV2+PTA": "the text's 14 % less time is 49.28 / 43.11 - 1; as a reduction it is 12.5 %"},
    "asfd-table5": {
        "D0": "the abstract's more than 120 pictures a second are not this row's: 8.9 ms are 112 a second",
        "D6": "cannot be of the same construction as D5 at the widths of the paper's Table 1",
    },
    "airface-table2": {
        "5e-4, last layer x10": "the same three figures stand in Table 3 at ArcFace (m=0.5, NS); this table does not "
        "say its loss",
    },
}


def shown(table: PaperTable) -> PaperTable:
    """The table as we show it: that of PTA's error rates under ISO's names, all others as they are printed."""
    if table is not PTA_TABLE3:
        return table
    from .papers import iso_rows

    title = f"{table.title}; APCER and BPCER have changed places, to ISO's names"
    return replace(table, title=title, rows=iso_rows())


Target = tuple[str, str, str]  # table, row and column


def _targets() -> dict[str, dict[tuple[str, str], tuple[Target, ...]]]:
    """By experiment of `facenas.reproduce`, and by row and heading of its result: the figures that it fills."""
    found: dict[str, dict[tuple[str, str], tuple[Target, ...]]] = {}
    names = {"APCER": "apcer", "BPCER": "bpcer", "ACER": "acer"}
    protocols = [f"protocol {number}" for number in range(1, 5)]
    found["auto-fas-1"] = {
        (protocol, heading): (("auto-fas-table1", f"{protocol}: Auto-FAS", key),)
        for protocol in protocols
        for heading, key in names.items()
    }
    found["auto-fas-2"] = {
        ("CASIA-FASD to Replay-Attack", "HTER"): (("auto-fas-table2", "Auto-FAS", "casia_to_replay"),),
        ("Replay-Attack to CASIA-FASD", "HTER"): (("auto-fas-table2", "Auto-FAS", "replay_to_casia"),),
    }
    found["auto-fas-3"] = {
        (row.lower(), heading): (("auto-fas-table3", row, key),)
        for row in rates.AUTO_FAS_TABLE3.rows
        for heading, key in names.items()
    }
    found["auto-fas-3"]["pixel-wise binary cross-entropy", "ACER"] += (("auto-fas-table4", "Auto-FAS", "acer"),)
    found["pta-3"] = {
        (row, heading): (("pta-table3", row, key),)
        for row in PTA_TABLE3.rows
        for heading, key in {"accuracy": "accuracy", **names}.items()
    }
    found["hatfas-oulu"] = {
        (protocol, "HTER at 0.5"): (
            ("hatfas-oulu", protocol, "hter"),
            ("hatfas-teaching", "HaTFAS", protocol.replace(" ", "_")),
        )
        for protocol in protocols
    }
    found["hatfas-small"] = {
        (row, heading): (("hatfas-small", row, heading.lower()),)
        for row, heading in (("CASIA-FASD", "EER"), ("Replay-Attack", "EER"), ("Replay-Attack", "HTER"))
    }
    return found


TARGETS = _targets()

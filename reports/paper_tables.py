"""Tables of the papers as they are printed, their slips kept and annotated. Nothing here was measured by us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a paper's table; ``decimals`` as printed."""

    heading: str
    unit: str = ""
    decimals: int = 2

    @property
    def title(self) -> str:
        return f"{self.heading}, {self.unit}" if self.unit else self.heading


@dataclass(frozen=True)
class Slip:
    """A printed value that cannot be right: what it should be, and how that is known."""

    row: str
    column: str
    correct: float
    why: str


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes:
        name: what the command calls it, such as ``pta-table4``.
        source: where it is printed.
        title: what it shows, on which data or devices.
        columns: by key.
        rows: printed values by row and column; what is not printed is left out.
        slips: single values that are wrong.
        remark: what else a reader must know before using it.
    """

    name: str
    source: str
    title: str
    columns: Mapping[str, Column]
    rows: Mapping[str, Mapping[str, float]]
    slips: tuple[Slip, ...] = ()
    remark: str = ""

    def slip(self, row: str, column: str) -> Slip | None:
        """The annotation of a value, if it is one of the wrong ones."""
        return next((slip for slip in self.slips if (slip.row, slip.column) == (row, column)), None)


def _rows(names: tuple[str, ...], values: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {row: dict(zip(names, numbers, strict=True)) for row, numbers in values.items()}


PTA = "Khabarlak, Post-Train Adaptive MobileNet for Fast Anti-Spoofing, CEUR-WS vol. 3156, 2022"
NO_PTA = "No PTA"  # torchvision's MobileNetV2, trained by itself

PTA_TABLE2 = PaperTable(
    name="pta-table2",
    source=f"{PTA}, Table 2",
    title="How often training draws each configuration",
    columns={"probability": Column("probability")},
    rows=_rows(
        ("probability",),
        {"HHH": (0.45,), "LHH": (0.15,), "HLH": (0.15,), "HHL": (0.15,), "LLL": (0.10,), "BBB": (0.0,)},
    ),
    remark="Configurations that are missing are never drawn.",
)

PTA_TABLE3 = PaperTable(
    name="pta-table3",
    source=f"{PTA}, Table 3",
    title="Error rates on the test split of CelebA-Spoof, intra-test protocol",
    columns={
        "accuracy": Column("accuracy", "%"),
        "apcer": Column("APCER", "%"),
        "bpcer": Column("BPCER", "%"),
        "acer": Column("ACER", "%"),
    },
    rows=_rows(
        ("accuracy", "apcer", "bpcer", "acer"),
        {
            NO_PTA: (96.74, 1.07, 4.18, 2.63),
            "HHH": (96.89, 0.72, 4.12, 2.42),
            "LHH": (96.84, 0.70, 4.20, 2.45),
            "HLH": (97.04, 0.80, 3.88, 2.34),
            "HHL": (97.83, 2.30, 2.11, 2.21),
            "LLL": (97.85, 2.53, 1.98, 2.26),
            "BBB": (97.49, 1.21, 3.05, 2.13),
        },
    ),
    remark=(
        "As printed, APCER and BPCER are exchanged against ISO/IEC 30107-3: the paper counts a spoof as positive, so "
        "its Eq. 2, FP / (FP + TN), is the share of live faces that are turned away, which ISO calls BPCER. All "
        "seven printed accuracies agree with that at the test split's share of attacks, 70 %. ACER is the mean of both "
        "and does not change."
    ),
)

PTA_TABLE4 = PaperTable(
    name="pta-table4",
    source=f"{PTA}, Table 4",
    title="Parameters, multiply-adds, and time on two phone processors, picture of 128x128",
    columns={
        "parameters": Column("parameters", "M"),
        "operations": Column("multiply-adds", "M"),
        "sd845": Column("Snapdragon 845", "ms"),
        "sd800": Column("Snapdragon 800", "ms"),
        "relative": Column("relative time"),
    },
    rows=_rows(
        ("parameters", "operations", "sd845", "sd800", "relative"),
        {
            NO_PTA: (2.23, 104.15, 21.32, 94.23, 1.00),
            "HHH": (2.23, 104.15, 21.27, 94.12, 1.00),
            "LHH": (2.17, 100.63, 18.61, 82.24, 0.87),
            "HLH": (2.11, 96.50, 19.67, 86.96, 0.92),
            "HHL": (1.91, 99.00, 19.27, 85.15, 0.90),
            "LLL": (1.73, 87.84, 17.08, 75.44, 0.80),
            "BBB": (2.73, 120.47, 22.72, 100.47, 1.07),
        },
    ),
    slips=(
        Slip("HLH", "operations", 96.51, "the paper's own other rows add up to 96.51 too"),
        Slip("BBB", "parameters", 2.72, "2.73 is 2.23 + 0.50, a sum of values that were rounded before"),
    ),
    remark="The paper names neither the runtime nor the number of threads, and gives no spread.",
)

PTA_TABLE5 = PaperTable(
    name="pta-table5",
    source=f"{PTA}, Table 5",
    title="Training time on a GTX 1050 Ti, 20 epochs of CelebA-Spoof, and the best of each column of Table 3",
    columns={
        "epoch_minutes": Column("epoch", "min"),
        "overall_hours": Column("training", "h"),
        "accuracy": Column("best accuracy", "%"),
        "acer": Column("best ACER", "%"),
    },
    rows=_rows(
        ("epoch_minutes", "overall_hours", "accuracy", "acer"),
        {"MobileNetV2": (49.28, 16.43, 96.74, 2.63), "MobileNetV2+PTA": (43.11, 14.37, 97.85, 2.13)},
    ),
    remark=(
        "The text calls the saving 14 %, which is 49.28 / 43.11 - 1; as a reduction it is 12.5 %. "
        "The best accuracy (LLL) and the best ACER (BBB) are of different configurations."
    ),
)

ASFD_TABLE5 = PaperTable(
    name="asfd-table5",
    source="Zhang et al., ASFD: Automatic and Scalable Face Detector, arXiv 2003.11228, 2020, Table 5",
    title="Size of the detectors D0 to D6, AP on WIDER FACE (validation split, one scale), and time on a Tesla P40",
    columns={
        "easy": Column("AP easy", "", 3),
        "medium": Column("AP medium", "", 3),
        "hard": Column("AP hard", "", 3),
        "parameters": Column("parameters", "M"),
        "macs": Column("MACs", "G"),
        "latency": Column("latency at VGA", "ms", 1),
    },
    rows=_rows(
        ("easy", "medium", "hard", "parameters", "macs", "latency"),
        {
            "D0": (0.901, 0.875, 0.744, 0.62, 0.73, 8.9),
            "D1": (0.933, 0.917, 0.820, 3.90, 4.27, 9.2),
            "D2": (0.951, 0.937, 0.836, 13.56, 20.48, 12.4),
            "D3": (0.953, 0.943, 0.848, 26.56, 46.32, 23.1),
            "D4": (0.956, 0.945, 0.858, 36.76, 70.45, 28.7),
            "D5": (0.957, 0.947, 0.859, 67.73, 147.40, 32.8),
            "D6": (0.958, 0.947, 0.860, 86.10, 183.11, 37.7),
            "EXTD (MobileNet)": (0.851, 0.823, 0.672, 0.68, 10.62, 34.4),
            "SRN (ResNet-50)": (0.930, 0.873, 0.713, 80.18, 189.69, 55.1),
            "RetinaFace (ResNet-50)": (0.957, 0.943, 0.828, 26.03, 33.41, 29.3),
            "PyramidBox (ResNet-50)": (0.951, 0.943, 0.844, 64.15, 111.09, 54.5),
            "DSFD (ResNet-152)": (0.955, 0.942, 0.851, 114.50, 259.55, 83.3),
        },
    ),
    remark="The abstract's more than 120 pictures a second are not Table 5's: 8.9 ms of D0 are 112 a second.",
)

AIRFACE = PaperTable(
    name="airface",
    source="Li et al., AirFace: Lightweight and Efficient Model for Face Recognition, ICCV Workshops 2019, Tables 1 "
    "and 4; MobileFaceNet's parameters and MACs are of its own paper, those of y2 of InsightFace",
    title="Size of AirFace and of its relatives at 112x112",
    columns={
        "parameters": Column("parameters", "M"),
        "macs": Column("MACs", "M", 0),
        "flops": Column("FLOPs", "M", 0),
    },
    rows={
        "airface": {"flops": 1000.0},
        "airface-strict": {"flops": 1000.0},
        "mobilefacenet-128": {"parameters": 0.99, "macs": 221.0, "flops": 440.0},
        "mobilefacenet-y2": {"flops": 933.0},
    },
    remark="The paper prints FLOPs of AirFace with one digit, 1G.",
)

HATFAS = PaperTable(
    name="hatfas",
    source="Zhang et al., Efficient Face Anti-Spoofing via Head-aware Transformer based Knowledge Distillation with 5 "
    "MB model parameters, Applied Soft Computing 166, 2024",
    title="Size of the student (DeiT-Tiny) and of the teacher (DeiT-Base) for two classes at 224x224",
    columns={
        "parameters": Column("parameters", "M"),
        "macs": Column("MACs", "G"),
        "attention": Column("MACs of attention products", "G", 3),
    },
    rows={"deit-tiny": {"parameters": 5.0}},
    remark="The paper prints embedding, heads and layers of both networks, and 5 MB for the student.",
)

PAPER_TABLES = {
    table.name: table for table in (PTA_TABLE2, PTA_TABLE3, PTA_TABLE4, PTA_TABLE5, ASFD_TABLE5, AIRFACE, HATFAS)
}

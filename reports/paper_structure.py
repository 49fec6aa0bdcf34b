"""What else of the papers' tables can be computed without data: sizes, how the networks are made, ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .paper_rates import (
    AIRFACE_TABLE1,
    AIRFACE_TABLE4,
    ASFD_RATIOS,
    ASFD_TABLE1,
    AUTO_FAS_TABLE4,
    HATFAS_NETWORKS,
    PTA_TABLE1,
)
from .paper_tables import ASFD_TABLE5, PaperTable
from .papers_output import Block, Computed

if TYPE_CHECKING:
    from torch import nn

Ours = Mapping[str, Mapping[str, float]]  # row -> column -> ours, in the column's unit
MADE_SO = "Ours are read from the code that builds the network; the sizes that follow from them are in another table."
# a derived network of the default options; the paper shows its own in a picture only
AUTO_FAS_GENOTYPE = {
    "normal": "max_pool_3x3 1, sep_conv_3x3 0; max_pool_3x3 1, skip_connect 2; sep_conv_3x3 1, sep_conv_3x3 3; "
    "sep_conv_3x3 4, max_pool_3x3 2",
    "reduce": "sep_conv_3x3 1, sep_conv_3x3 0; sep_conv_3x3 0, sep_conv_3x3 1; max_pool_3x3 1, max_pool_3x3 3; "
    "avg_pool_3x3 0, sep_conv_5x5 3",
}
FACE = (3, 108, 108)
REBUILT = "rebuilt from its paper's description, its map resized to 14x14; Auto-FAS' own rebuilding is not described"
ONE_DIGIT = "1G is printed with one digit; ours is Table 1 as printed, and both readings of it round to 1G"


def computed(table: PaperTable, ours: Ours, reasons: Mapping[str, str], notes: list[str]) -> Computed:
    """A table with what we computed.

    Args:
        table: the paper's.
        ours: by row and column; rows that are missing are the paper's alone.
        reasons: by row, why its figures deviate.
        notes: how ours came about.
    """
    rows: list[dict[str, Any]] = []
    lines = []
    for name, printed in table.rows.items():
        found, why = dict(ours.get(name, {})), reasons.get(name, "")
        rows.append({"row": name, "paper": dict(printed), "ours": found, "remarks": {"why": why} if why else {}})
        cells = []
        for key, column in table.columns.items():
            cells.append(f"{printed[key]:.{column.decimals}f}" if key in printed else "")
            cells.append(f"{found[key]:.{column.decimals + 1}f}" if key in found else "")
        lines.append((name, *cells, why))
    headings = [text for column in table.columns.values() for text in (f"{column.title}: paper", "ours")]
    return Computed(table, rows, (Block(table.title, ("row", *headings, "remark"), lines),), notes, None)


def auto_fas_architecture() -> Any:
    """A network of the family whose size is that of the paper's Table 4."""
    from searchspaces import Architecture

    choices: dict[str, Any] = {}
    for cell, text in AUTO_FAS_GENOTYPE.items():
        for node, pair in enumerate(text.split("; "), start=2):
            named = [edge.split() for edge in pair.split(", ")]
            choices[f"{cell}/input_{node}"] = [int(source) for _, source in named]
            choices |= {f"{cell}/op_{node}_{slot}": operation for slot, (operation, _) in enumerate(named)}
    return Architecture("autofas", {}, choices)


def auxiliary_depth() -> nn.Module:
    """The depth network of Liu et al., CVPR 2018, its map resized: ``(N, 3, H, W)`` to ``(N, 1, 14, 14)``."""
    import torch
    from torch import Tensor, nn

    def conv(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def block(inputs: int) -> nn.Sequential:
        return nn.Sequential(conv(inputs, 128), conv(128, 196), conv(196, 128), nn.MaxPool2d(3, 2, 1))

    class Depth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks = conv(3, 64), nn.ModuleList([block(64), block(128), block(128)])
            self.resize = nn.Upsample(size=(14, 14), mode="bilinear")
            self.head = nn.Sequential(conv(384, 128), conv(128, 64), conv(64, 1))

        def forward(self, x: Tensor) -> Tensor:
            x, maps = self.stem(x), []
            for stage in self.blocks:
                x = stage(x)
                maps.append(self.resize(x))
            return self.head(torch.cat(maps, dim=1))

    return Depth()


def auto_fas_table4(repetitions: int = 0) -> Computed:
    """Parameters and MACs of Auto-FAS and its two peers."""
    import torch
    from torchvision.models import resnet18

    from hardware.counters import count, count_parameters

    ours = {}
    with torch.device("meta"):
        networks = {"ResNet-18": resnet18(), "Auxiliary (Depth)": auxiliary_depth()}
        networks["Auto-FAS"] = auto_fas_architecture().build()
    for name, network in networks.items():
        stored = count_parameters(network.eval(), FACE)["stored"]
        ours[name] = {"parameters": stored / 1e6, "macs": count(network, FACE) / 1e9}
    notes = [
        "ResNet-18 is torchvision's, with its 1000 classes, which the paper's figure contains.",
        "The paper shows its genotype in a picture only. Ours is one of the family that has the printed size: this "
        "shows that the family fits, not that it is the paper's network.",
    ]
    return computed(AUTO_FAS_TABLE4, ours, {"Auxiliary (Depth)": REBUILT}, notes)


def pta_table1(repetitions: int = 0) -> Computed:
    """The stages of the network."""
    from searchspaces.pta import STAGES

    stages = zip(PTA_TABLE1.rows, STAGES, strict=True)
    ours = {row: {"channels": c, "repeats": n, "stride": s} for row, (_, c, n, s) in stages}
    return computed(PTA_TABLE1, ours, {}, [MADE_SO])


def asfd_table1(repetitions: int = 0) -> Computed:
    """The scaling of the members, from our reading of Eq. 9."""
    from searchspaces.asfd import MEMBERS, scaling

    ours = {}
    for row in ASFD_TABLE1.rows:
        width, layers, head_layers = scaling(MEMBERS[row][0])
        values = {"fem_channels": width, "fem_layers": layers, "head_channels": width, "head_layers": head_layers}
        ours[row] = values
    note = "Ours: W = 64 theta, and with f = floor((theta - 1) / 2) layers 2^(f - 1) of AutoFEM and 2^f of a head."
    return computed(ASFD_TABLE1, ours, {}, [note])


def asfd_ratios(repetitions: int = 0) -> Computed:
    """The ratios, from the same table's own figures."""
    printed = ASFD_TABLE5.rows
    ours = {}
    for row in ASFD_RATIOS.rows:
        rival, member = row.split(" to ")
        ours[row] = {key: printed[rival][key] / printed[member][key] for key in ASFD_RATIOS.columns}
    why = {"RetinaFace (ResNet-50) to D2": "a slip of the paper: its own 33.41 G over 20.48 G are 1.6"}
    note = "Ours are quotients of the figures that the paper prints beside them, not counts or times of ours."
    return computed(ASFD_RATIOS, ours, why, [note])


def airface_table1(repetitions: int = 0) -> Computed:
    """The bottlenecks, by the choices that build the network."""
    from searchspaces.airface import STAGES, STEM, published, width_of

    chosen = published("airface").choices
    widths = {stage: width_of(stage, chosen["width"], STEM) for stage in STAGES}
    rows = iter(AIRFACE_TABLE1.rows)
    ours = {}
    for stage, width in widths.items():
        ours[next(rows)] = {"expansion": chosen[f"stage_{stage}/down"], "channels": width, "repeats": 1}
        repeats = {"expansion": chosen[f"stage_{stage}/expansion"], "repeats": chosen[f"stage_{stage}/repeats"]}
        ours[next(rows)] = {**repeats, "channels": width}
    return computed(AIRFACE_TABLE1, ours, {}, [MADE_SO])


def airface_table4(repetitions: int = 0) -> Computed:
    """The FLOPs of AirFace and MobileFaceNet."""
    from .paper_faces import airface

    flops = {row["row"]: row["ours"]["flops"] / 1e6 for row in airface().rows}
    networks = {"AirFace, MS1M-retina": "airface", "MobileFaceNet": "mobilefacenet-128"}
    networks |= {f"{row}, R": network for row, network in networks.items()}
    ours = {row: {"flops": flops[network]} for row, network in networks.items()}
    reasons = {row: ONE_DIGIT for row in networks if row.startswith("AirFace")}
    note = "FLOPs are counted as InsightFace does: two for each multiply-accumulate but the first."
    return computed(AIRFACE_TABLE4, ours, reasons, [note])


def hatfas_networks(repetitions: int = 0) -> Computed:
    """Embedding, heads and layers of teacher and student, from the built networks."""
    import torch

    from searchspaces.hatfas import published

    ours = {}
    for row, name in (("Teacher", "deit-base"), ("Student", "deit-tiny")):
        with torch.device("meta"):
            network: Any = published(name).build()
        network = next(module for module in network.modules() if hasattr(module, "embed_dim"))
        heads = network.blocks[0].attn.num_heads
        ours[row] = {"embed": network.embed_dim, "heads": heads, "layers": len(network.blocks)}
    return computed(HATFAS_NETWORKS, ours, {}, ["Ours are read from the built networks."])


COMPUTED_TOO: Mapping[str, Callable[[int], Computed]] = {
    "auto-fas-table4": auto_fas_table4,
    "pta-table1": pta_table1,
    "asfd-table1": asfd_table1,
    "asfd-table5-ratios": asfd_ratios,
    "airface-table1": airface_table1,
    "airface-table4": airface_table4,
    "hatfas-networks": hatfas_networks,
}

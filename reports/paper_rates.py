"""The papers' other tables, as printed: error rates, accuracies, and how the networks are made. Nothing here is ours.

A figure with ``+-`` is a mean and a deviation over folds, as printed; "-" stands where the paper has nothing.
"""

from __future__ import annotations

from .paper_tables import AIRFACE, ASFD_TABLE5, HATFAS, PTA, Column, PaperTable

AUTO_FAS = "Yu et al., Auto-FAS: Searching Lightweight Networks for Face Anti-Spoofing, ICASSP 2020"
ASFD = ASFD_TABLE5.source.rpartition(",")[0]
AIRFACE_PAPER = AIRFACE.source.partition(", Tables")[0]
DEVIATION = "_deviation"  # ends the key of a printed deviation
ERRORS = ("apcer", "bpcer", "acer")
NO_NUMBER = "-"


def read_rows(columns: tuple[str, ...], text: str) -> dict[str, dict[str, float]]:
    """Rows from lines of ``name | figure | figure``.

    >>> read_rows(("hter", "eer"), "A | 1.5 +- 0.2 | -")
    {'A': {'hter': 1.5, 'hter_deviation': 0.2}}
    """
    rows = {}
    for line in text.strip().splitlines():
        name, *figures = (part.strip() for part in line.split("|"))
        row: dict[str, float] = {}
        for key, figure in zip(columns, figures, strict=True):
            if figure != NO_NUMBER:
                mean, _, deviation = figure.partition("+-")
                row[key] = float(mean)
                if deviation:
                    row[key + DEVIATION] = float(deviation)
        rows[name] = row
    return rows


def _table(name: str, source: str, title: str, columns: dict[str, Column], text: str, remark: str = "") -> PaperTable:
    return PaperTable(name, source, title, columns, read_rows(tuple(columns), text), remark=remark)


def _percents(decimals: int, *names: str) -> dict[str, Column]:
    return {name.lower().replace(" ", "_").replace("-", "_"): Column(name, "%", decimals) for name in names}


AP = {"easy": Column("AP easy", "", 3), "medium": Column("AP medium", "", 3), "hard": Column("AP hard", "", 3)}
FACES = _percents(3, "LFW", "CFP-FP", "AgeDB")
MULTI_SCALE = "AP on WIDER FACE, validation split, several scales"

AUTO_FAS_TABLE1 = _table(
    "auto-fas-table1",
    f"{AUTO_FAS}, Table 1",
    "Error rates on OULU-NPU, protocols 1 to 4",
    _percents(1, "APCER", "BPCER", "ACER"),
    """
    protocol 1: DeepPixBiS | 0.83 | 0.0 | 0.42
    protocol 1: HKBU | 9.6 | 18.3 | 14.0
    protocol 1: NWPU | 8.8 | 21.7 | 15.2
    protocol 1: Auxiliary | 1.6 | 1.6 | 1.6
    protocol 1: Auto-FAS | 12.1 | 5.0 | 8.5
    protocol 2: DeepPixBiS | 11.39 | 0.56 | 5.97
    protocol 2: HKBU | 13.9 | 5.6 | 9.7
    protocol 2: NWPU | 12.5 | 26.7 | 19.6
    protocol 2: Auxiliary | 2.7 | 2.7 | 2.7
    protocol 2: Auto-FAS | 19.4 | 4.8 | 12.1
    protocol 3: DeepPixBiS | 11.7 +- 19.6 | 10.6 +- 14.1 | 11.1 +- 9.4
    protocol 3: HKBU | 12.8 +- 11.0 | 11.4 +- 9.0 | 12.1 +- 6.5
    protocol 3: NWPU | 3.2 +- 2.6 | 33.9 +- 10.3 | 18.5 +- 4.4
    protocol 3: Auxiliary | 2.7 +- 1.3 | 3.1 +- 1.7 | 2.9 +- 1.5
    protocol 3: Auto-FAS | 11.3 +- 7.3 | 9.2 +- 5.2 | 10.2 +- 3.3
    protocol 4: DeepPixBiS | 36.7 +- 29.7 | 13.3 +- 14.1 | 25.0 +- 12.7
    protocol 4: HKBU | 33.3 +- 37.9 | 27.5 +- 20.4 | 30.4 +- 20.8
    protocol 4: NWPU | 30.8 +- 7.4 | 44.2 +- 23.3 | 37.5 +- 9.4
    protocol 4: Auxiliary | 9.3 +- 5.6 | 10.4 +- 6.0 | 9.5 +- 6.0
    protocol 4: Auto-FAS | 17.9 +- 9.8 | 9.2 +- 9.7 | 13.6 +- 7.5
    """,
    "The paper does not say whether APCER is pooled or of the worse attack type.",
)
AUTO_FAS_TABLE2 = _table(
    "auto-fas-table2",
    f"{AUTO_FAS}, Table 2",
    "Cross-testing of CASIA-MFSD (CASIA-FASD) and Replay-Attack",
    {
        "casia_to_replay": Column("HTER, CASIA-FASD to Replay-Attack", "%", 1),
        "replay_to_casia": Column("HTER, Replay-Attack to CASIA-FASD", "%", 1),
    },
    """
    Motion-Mag | 50.1 | 47.0
    Spectral cubes | 34.4 | 50.0
    FaceDs | 28.5 | 41.1
    Auxiliary | 27.6 | 28.4
    Auto-FAS | 15.6 | 40.7
    """,
)
AUTO_FAS_TABLE3 = _table(
    "auto-fas-table3",
    f"{AUTO_FAS}, Table 3",
    "Two supervisions, OULU-NPU, protocol 1, a network searched with each",
    _percents(1, "APCER", "BPCER", "ACER"),
    """
    Binary cross-entropy | 12.5 | 16.0 | 14.2
    Pixel-wise binary cross-entropy | 12.1 | 5.0 | 8.5
    """,
)
AUTO_FAS_TABLE4 = _table(
    "auto-fas-table4",
    f"{AUTO_FAS}, Table 4",
    "Size, and ACER on OULU-NPU, protocol 1, picture of 108x108",
    {"parameters": Column("parameters", "M"), "macs": Column("MACs", "G"), "acer": Column("ACER", "%")},
    """
    ResNet-18 | 11.69 | 0.48 | 11.91
    Auxiliary (Depth) | 2.20 | 8.50 | 7.90
    Auto-FAS | 0.27 | 0.53 | 8.50
    """,
    "Parameters stand under Mb in the paper and are millions; its GFLOPS are multiply-adds.",
)
PTA_TABLE1 = _table(
    "pta-table1",
    f"{PTA}, Table 1",
    "How the network is made: blocks after the first convolution",
    {"channels": Column("channels", "", 0), "repeats": Column("repeats", "", 0), "stride": Column("stride", "", 0)},
    """
    1 Inverted Residual | 16 | 1 | 1
    2 Inverted Residual | 24 | 2 | 2
    3 Inverted Residual | 32 | 3 | 2
    4 Inverted Residual | 64 | 2 | 2
    5 PTA | 64 | 1 | 1
    6 Inverted Residual | 96 | 1 | 1
    7 PTA | 96 | 1 | 1
    8 Inverted Residual | 160 | 1 | 2
    9 PTA | 160 | 1 | 1
    10 Inverted Residual | 320 | 1 | 1
    """,
)
ASFD_TABLE1 = _table(
    "asfd-table1",
    f"{ASFD}, Table 1",
    "How D0 to D6 are scaled",
    {
        "fem_channels": Column("channels of AutoFEM", "", 0),
        "fem_layers": Column("layers of AutoFEM", "", 1),
        "head_channels": Column("channels of a head", "", 0),
        "head_layers": Column("layers of a head", "", 0),
    },
    """
    D0 | 64 | 0.5 | 64 | 1
    D1 | 64 | 0.5 | 64 | 1
    D2 | 128 | 0.5 | 128 | 1
    D3 | 192 | 1 | 192 | 2
    D4 | 256 | 1 | 256 | 2
    D5 | 320 | 2 | 320 | 4
    D6 | 384 | 2 | 384 | 4
    """,
    "The paper's Eq. 9 does not give its own Table 1: printed without rounding down, and with heads twice as deep.",
)
ASFD_TABLE2 = _table(
    "asfd-table2",
    f"{ASFD}, Table 2",
    f"Feature modules on ResNet-50; {MULTI_SCALE}",
    AP,
    """
    Baseline | 0.947 | 0.932 | 0.822
    FEM-FPN | 0.954 | 0.944 | 0.881
    BiFPN | 0.954 | 0.945 | 0.874
    PAN | 0.953 | 0.945 | 0.883
    AutoFEM-FPN | 0.956 | 0.947 | 0.884
    FEM-CPM | 0.950 | 0.933 | 0.827
    RFE | 0.951 | 0.934 | 0.830
    AutoFEM-CPM | 0.948 | 0.933 | 0.834
    FEM-FPN + FEM-CPM | 0.954 | 0.944 | 0.882
    FEM-FPN + RFE | 0.954 | 0.945 | 0.882
    FEM-FPN + AutoFEM-CPM | 0.952 | 0.943 | 0.881
    AutoFEM-FPN + FEM-CPM | 0.955 | 0.945 | 0.886
    AutoFEM-FPN + RFE | 0.956 | 0.947 | 0.886
    AutoFEM-FPN + AutoFEM-CPM | 0.958 | 0.949 | 0.887
    """,
    "Which modules a column has is told by ticks that the paper's text has lost: the running text fixes the baseline, "
    "AutoFEM-FPN and the last column, the others stand in the order of the ticks.",
)
ASFD_TABLE3 = _table(
    "asfd-table3",
    f"{ASFD}, Table 3",
    f"Search methods for AutoFEM-CPM; {MULTI_SCALE}",
    AP,
    """
    PC-DARTS, 4 nodes | 0.956 | 0.945 | 0.881
    PC-DARTS, 6 nodes | 0.957 | 0.947 | 0.882
    ours + cat_all, 4 nodes | 0.957 | 0.947 | 0.883
    ours + cat_all, 6 nodes | 0.957 | 0.948 | 0.884
    ours + cat_all, 8 nodes | 0.957 | 0.948 | 0.885
    ours + cat_leaf, 4 nodes | 0.957 | 0.947 | 0.885
    ours + cat_leaf, 6 nodes | 0.958 | 0.949 | 0.887
    ours + cat_leaf, 8 nodes | 0.958 | 0.948 | 0.887
    """,
    "In the names of these rows, ours is the paper's word for its own method. PC-DARTS with 8 nodes is not printed.",
)
ASFD_TABLE4 = _table(
    "asfd-table4",
    f"{ASFD}, Table 4",
    f"Parts of the loss; {MULTI_SCALE}",
    AP,
    """
    Baseline | 0.954 | 0.944 | 0.883
    Baseline + auxiliary | 0.954 | 0.945 | 0.884
    Baseline + auxiliary + MC | 0.954 | 0.945 | 0.885
    Baseline + auxiliary + DR | 0.955 | 0.946 | 0.883
    Baseline + auxiliary + DRMC | 0.957 | 0.947 | 0.884
    Baseline + AutoFEM + auxiliary + DRMC | 0.961 | 0.953 | 0.888
    """,
)
ASFD_RATIOS = _table(
    "asfd-table5-ratios",
    f"{ASFD}, Table 5, columns Ratio",
    "How much more the rivals cost",
    {
        "parameters": Column("parameters, ratio", "", 1),
        "macs": Column("MACs, ratio", "", 1),
        "latency": Column("latency, ratio", "", 1),
    },
    """
    EXTD (MobileNet) to D0 | 1.1 | 14.5 | 3.9
    SRN (ResNet-50) to D1 | 20.6 | 44.4 | 6.0
    RetinaFace (ResNet-50) to D2 | 1.9 | 2.4 | 2.4
    PyramidBox (ResNet-50) to D3 | 2.4 | 2.4 | 2.4
    DSFD (ResNet-152) to D4 | 3.1 | 3.7 | 2.9
    """,
)
AIRFACE_TABLE1 = _table(
    "airface-table1",
    f"{AIRFACE_PAPER}, Table 1",
    "How the network is made: its bottlenecks",
    {"expansion": Column("t", "", 0), "channels": Column("c", "", 0), "repeats": Column("n", "", 0)},
    """
    1 halves the map to 28x28 | 2 | 64 | 1
    2 at 28x28 | 2 | 64 | 9
    3 halves the map to 14x14 | 4 | 128 | 1
    4 at 14x14 | 2 | 128 | 16
    5 halves the map to 7x7 | 8 | 256 | 1
    6 at 7x7 | 2 | 256 | 6
    """,
    "Before them a convolution and a depthwise convolution of 64 channels, after them 1024 channels and an embedding "
    "of 512.",
)
AIRFACE_TABLE2 = _table(
    "airface-table2",
    f"{AIRFACE_PAPER}, Table 2",
    "Weight decay: verification accuracy of MobileFaceNet with an embedding of 128",
    FACES,
    """
    5e-4 | 99.167 | 94.086 | 92.95
    5e-4, last layer x10 | 99.183 | 93.857 | 93.183
    4e-5, last layer x10 | 99.05 | 92.07 | 92
    """,
)
AIRFACE_TABLE3 = _table(
    "airface-table3",
    f"{AIRFACE_PAPER}, Table 3",
    "Losses: verification accuracy of MobileFaceNet with an embedding of 128",
    FACES,
    """
    N-Softmax | 97.867 | 90.457 | 86.55
    Li-ArcFace (m=0.35) | 99.2 | 94.2 | 92.867
    Li-ArcFace (m=0.4) | 99.267 | 94.114 | 93.25
    Li-ArcFace (m=0.45) | 99.233 | 94.2 | 93.15
    Li-ArcFace (m=0.5) | 99.2 | 94.1 | 92.933
    Li-ArcFace (m=0.4, NS) | 99.233 | 94.514 | 92.9
    Li-ArcFace (m=0.45, NS) | 99.267 | 94.386 | 93.217
    ArcFace (m=0.4, NS) | 99.267 | 93.929 | 92.717
    ArcFace (m=0.45, NS) | 99.267 | 94 | 92.983
    ArcFace (m=0.5, NS) | 99.183 | 93.857 | 93.183
    CosFace/AM-Softmax | 99.2 | 93.386 | 92.55
    """,
    "NS: trained with N-Softmax before.",
)
AIRFACE_TABLE4 = _table(
    "airface-table4",
    f"{AIRFACE_PAPER}, Table 4",
    "MegaFace, challenge 1; R: refined probes and distractors",
    {
        "id": Column("rank-1", "%"),
        "ver": Column("TAR at FAR 1e-6", "%"),
        "flops": Column("FLOPs", "M", 0),
    },
    """
    FaceNet | 70.49 | 86.47 | -
    CosFace | 82.72 | 96.65 | -
    R100, MS1MV2, ArcFace | 81.03 | 96.98 | 27000
    R100, MS1MV2, CosFace | 80.56 | 96.56 | 27000
    R100, MS1MV2, ArcFace, R | 98.35 | 98.48 | 27000
    R100, MS1MV2, CosFace, R | 97.91 | 97.91 | 27000
    MobileFaceNet | - | 90.16 | 440
    MobileFaceNet, R | - | 92.59 | 440
    AirFace, MS1M-retina | 80.80 | 96.20 | 1000
    AirFace, MS1M-retina, R | 98.04 | 97.66 | 1000
    """,
    "FLOPs are printed as 27G, 440M and 1G.",
)
HATFAS_NETWORKS = _table(
    "hatfas-networks",
    f"{HATFAS.source}; its code's description",
    "How teacher and student differ",
    {"embed": Column("embedding", "", 0), "heads": Column("heads", "", 0), "layers": Column("layers", "", 0)},
    """
    Teacher | 768 | 12 | 12
    Student | 192 | 3 | 12
    """,
)
HATFAS_SMALL = _table(
    "hatfas-small",
    f"{HATFAS.source}, the table on CASIA-FASD and Replay-Attack",
    "Error rates of HaTFAS' student",
    _percents(2, "EER", "HTER"),
    """
    CASIA-FASD | 0.20 | -
    Replay-Attack | 0.00 | 0.00
    """,
    "Printed as a picture, with rivals that are not repeated here.",
)
HATFAS_OULU = _table(
    "hatfas-oulu",
    f"{HATFAS.source}, the table on OULU-NPU",
    "Error rates of HaTFAS' student, protocols 1 to 4",
    _percents(2, "FAR", "FRR", "HTER"),
    """
    protocol 1 | 0.00 | 0.50 | 0.25
    protocol 2 | 2.25 | 0.61 | 1.43
    protocol 3 | 0.83 +- 0.80 | 1.94 +- 2.76 | 1.39 +- 1.30
    protocol 4 | 5.00 +- 5.58 | 6.50 +- 9.96 | 5.75 +- 4.45
    """,
    "Printed as a picture, with rivals of other papers that are not repeated here.",
)
HATFAS_TEACHING = _table(
    "hatfas-teaching",
    f"{HATFAS.source}, the table of distillation methods",
    "HTER on OULU-NPU by distillation method",
    _percents(2, "protocol 1", "protocol 2", "protocol 3", "protocol 4"),
    """
    DeiT | 3.17 | 3.82 | 2.90 +- 3.06 | 16.25 +- 5.40
    SemCKD | 8.15 | 4.40 | 4.49 +- 3.56 | 27.83 +- 9.25
    SimKD | 3.94 | 5.99 | 6.19 +- 2.96 | 25.33 +- 9.46
    TaTKD | 30.54 | 11.46 | 8.98 +- 4.89 | 42.58 +- 6.55
    CviT | 2.92 | 3.01 | 3.03 +- 3.89 | 11.04 +- 6.34
    HaTFAS | 0.25 | 1.43 | 1.39 +- 1.30 | 5.75 +- 4.45
    """,
    "Printed as a picture.",
)

"""What a report says of each task: the figure that decides, the others, and what they mean.

A run's task is that of its metrics: where there is an average precision, faces are to be found, and where there is
an equal error rate but no ACER, people to be told apart (`task_name`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ANTISPOOFING, DETECTION, RECOGNITION = "antispoofing", "detection", "recognition"
AP_BY_WIDTH = "ap_width_"  # before a band's ends, pixels: from and below


@dataclass(frozen=True)
class Family:
    """Metrics of one kind whose keys begin alike, such as one for each attack type.

    Attributes:
        prefix: of the keys.
        after: the key that they follow in a table.
        label: what they are called, and ``meaning`` what they mean, with ``{}`` for the rest of the key.
        joint: what stands for ``_`` in that rest.
    """

    prefix: str
    after: str
    label: str
    meaning: str
    joint: str = "_"

    def describe(self, key: str) -> tuple[str, str]:
        """Label and meaning of one of the keys."""
        rest = key.removeprefix(self.prefix).replace("_", self.joint)
        return self.label.format(rest), self.meaning.format(rest)


@dataclass(frozen=True)
class TaskMetrics:
    """How the metrics of a task are read.

    Attributes:
        headline: key of the figure that a verdict is about, and ``label``, its short name.
        higher: whether more of it is better.
        rates: what such figures are called together.
        followed: by what a search chooses candidates: its short name; the column is ``val_`` and its lower case.
        names: label and meaning of each known key, in the order of a table.
        families: metrics whose names are open.
        compared: keys that two networks are compared by besides the headline and its families.
        plain: keys of figures that are no shares, and are shown as numbers.
        undefined: what is shown for a figure that cannot be defined on these data.
        remark: what stands below the table.
        limit: what figures from simulated data do not say.
        purpose: what a report lacks without metrics.json.
    """

    headline: str
    label: str
    higher: bool
    rates: str
    followed: str
    names: Mapping[str, tuple[str, str]]
    families: tuple[Family, ...]
    compared: tuple[str, ...]
    plain: tuple[str, ...]
    undefined: str
    remark: str
    limit: str
    purpose: str

    def order(self, metrics: Iterable[str]) -> list[str]:
        """Those of the keys that are known first, each family after the key that it follows, then the rest."""
        given = list(metrics)
        known = [key for name in self.names for key in (name, *self._followers(name, given))]
        return [key for key in dict.fromkeys([*known, *given]) if key in given]

    def comparable(self, metrics: Iterable[str]) -> list[str]:
        """The headline, what follows it, and `compared`."""
        return [self.headline, *self._followers(self.headline, metrics), *self.compared]

    def describe(self, key: str) -> tuple[str, str]:
        """Label and meaning of a metric; one that is not known is called by its key."""
        family = self._family(key)
        return self.names.get(key) or (family.describe(key) if family else (key, ""))

    def _family(self, key: str) -> Family | None:
        """The family with the longest prefix."""
        fitting = [family for family in self.families if key.startswith(family.prefix) and key not in self.names]
        return max(fitting, key=lambda family: len(family.prefix), default=None)

    def _followers(self, name: str, keys: Iterable[str]) -> list[str]:
        found = [(self.families.index(family), key) for key in keys if (family := self._family(key)) is not None]
        return [key for index, key in sorted(found, key=lambda pair: pair[0]) if self.families[index].after == name]


TASKS = {
    ANTISPOOFING: TaskMetrics(
        headline="acer",
        label="ACER",
        higher=False,
        rates="error rates",
        followed="AUC",
        names={
            "acer": ("ACER (paper)", "mean of APCER and BPCER, all attacks pooled, as the papers compute it"),
            "acer_iso": ("ACER (ISO)", "mean of BPCER and the APCER of the worst attack type, after ISO/IEC 30107-3"),
            "apcer": ("APCER, pooled", "share of all attacks that were accepted as live"),
            "apcer_max": (
                "APCER, worst type (ISO)",
                "the largest APCER of any one attack type, which ISO/IEC 30107-3 asks for",
            ),
            "bpcer": ("BPCER", "share of live faces that were rejected"),
            "hter": ("HTER", "mean of false acceptance and false rejection rate at the threshold"),
            "eer": ("EER", "error where both rates are equal; the threshold is chosen on these very samples"),
            "accuracy": ("Accuracy", "share of all pictures decided rightly; depends on how many attacks there are"),
            "auc": ("AUC", "chance that a live face scores above an attack, at any threshold"),
            "threshold": ("Threshold", "score above which a face counts as live"),
            "video_acer": ("ACER, videos", "of videos, whose score is the mean of their frames'"),
            "video_acer_iso": ("ACER, videos (ISO)", "of videos, with the APCER of the worst attack type"),
            "video_hter": ("HTER, videos", "of videos, at the threshold of the validation split's videos"),
            "video_eer": ("EER, videos", "of videos; the threshold is chosen on these very videos"),
            "video_apcer": ("APCER, videos", "share of attack videos that were accepted as live"),
            "video_apcer_max": ("APCER, videos, worst type", "the largest APCER of any one attack type, of videos"),
            "video_bpcer": ("BPCER, videos", "share of live videos that were rejected"),
            "video_threshold": ("Threshold, videos", "score above which a video counts as live"),
            "hter_argmax": ("HTER at 0.5", "of frames, where live is what scores more than half: HaTFAS' rule"),
            "video_hter_argmax": ("HTER at 0.5, videos", "of videos, by the same rule"),
        },
        families=(
            Family("apcer_", "apcer", "APCER, {}", "share of {} attacks that were accepted as live"),
            Family("video_apcer_", "video_apcer", "APCER, videos, {}", "share of {} videos that were accepted as live"),
        ),
        compared=("acer_iso", "apcer_max", "bpcer"),
        plain=("auc",),
        undefined="not given",
        remark=(
            "APCER counts attacks that pass, BPCER live faces that are turned away. The papers pool all attacks in one "
            "APCER; ISO/IEC 30107-3 reports the worst attack type, which cannot hide a weak spot behind an easy one."
        ),
        limit="how well the network tells real faces from real attacks",
        purpose="how well the final network tells live faces from attacks",
    ),
    RECOGNITION: TaskMetrics(
        headline="eer",
        label="EER",
        higher=False,
        rates="error rates",
        followed="AUC",
        names={
            "eer": ("EER", "error where as many pairs of one person are rejected as pairs of two are accepted"),
            "auc": ("AUC", "chance that a pair of one person is more similar than a pair of two"),
            "rank1": (
                "Rank-1 identification",
                "share of pictures whose most similar gallery picture is of that person",
            ),
            "threshold": ("Threshold", "cosine from which a pair counts as one person, where errors are equal"),
        },
        families=(
            Family(
                "tar_far_", "eer", "TAR at FAR {}", "share of pairs of one person that are accepted at that rate", " "
            ),
            Family("accuracy_", "auc", "Accuracy, {}", "ten folds: each threshold is chosen on the other folds", " "),
            Family("eer_", "eer", "EER, {}", "of the pairs of that list", " "),
            Family("auc_", "auc", "AUC, {}", "of the pairs of that list", " "),
        ),
        compared=("rank1",),
        plain=("auc",),
        undefined="not defined here",
        remark=(
            "A pair is accepted if the cosine of its embeddings is at least the threshold. Nobody who is judged was in "
            "the training. Intervals are over people."
        ),
        limit="how well the network recognises people in the world",
        purpose="how well the final network tells people apart",
    ),
    DETECTION: TaskMetrics(
        headline="ap",
        label="AP",
        higher=True,
        rates="average precisions",
        followed="AP",
        names={
            "ap": ("AP, all faces", "average precision: the area under precision over recall; 100 % is best"),
            "recall": ("Recall", "share of the faces that were found with a score of at least the threshold"),
            "precision": ("Precision", "share of the boxes with such a score that are faces"),
            "tpr_discrete": (
                "Found faces, discrete (FDDB)",
                "share of FDDB's faces found at 1,000 false boxes, or at as many as there are",
            ),
            "tpr_continuous": (
                "Found faces, continuous (FDDB)",
                "the same, each face counted by how well its box covers the ellipse",
            ),
            "threshold": ("Threshold", "score from which a box counts for recall and precision; fixed, not tuned"),
        },
        families=(
            Family("ap_", "ap", "AP, {}", "of the faces that the data set calls {}; the others count neither way", " "),
            Family(
                AP_BY_WIDTH,
                "ap",
                "AP, faces {} px wide",
                "of faces from the first width to below the second; the others count neither way",
                " to ",
            ),
        ),
        compared=("recall", "precision"),
        plain=(),
        undefined="not defined here",
        remark=(
            "A box finds a face if their intersection over union is at least 0.5. AP follows WIDER FACE's protocol "
            "(1,000 thresholds), except that boxes in pictures without a face count as wrong. Widths are in pixels of "
            "the picture as it is judged."
        ),
        limit="how well the network finds faces in photographs",
        purpose="how well the final network finds faces",
    ),
}


def task_name(metrics: Mapping[str, Any], said: Any = None) -> str:
    """The task of a run: that of its metrics, or without any what its provenance says.

    >>> task_name({"ap": {"value": 0.5}}), task_name({}, "detection"), task_name({})
    ('detection', 'detection', 'antispoofing')
    """
    for name in (ANTISPOOFING, DETECTION, RECOGNITION):  # the first has an EER too
        if TASKS[name].headline in metrics:
            return name
    return said if isinstance(said, str) and said in TASKS else ANTISPOOFING


def task_of(metrics: Mapping[str, Any], said: Any = None) -> TaskMetrics:
    """How the metrics are read: see `task_name`."""
    return TASKS[task_name(metrics, said)]

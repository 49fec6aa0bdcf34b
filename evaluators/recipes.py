"""Recipes: hyper-parameters by name. ``quick`` runs on two CPU cores in minutes, ``paper`` is what the paper used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from searchspaces.errors import UnknownNameError


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a search and of the training of its result.

    Attributes:
        data: the data set.
        people: how many people a data set of portraits shows; None for its default. Other data sets show everybody.
        search_space: options of the space during the search.
        train_space: options of the space for the network that is trained, on top of those of the search.
        search_epochs: epochs of a one-shot search.
        search_batch: batch size of the search; so many of each half a step.
        warmup_epochs: epochs at the start of a PC-DARTS search in which only the weights learn.
        search_learning_rate: of the weights during the search, at the start of the cosine.
        arc_learning_rate: of the architecture parameters.
        arc_weight_decay: of the architecture parameters.
        train_epochs: epochs of the result's training.
        train_batch: its batch size.
        train_learning_rate: its learning rate at the start of the cosine.
        weight_decay: of the weights, in the search and in the training.
        optimizer: of the weights, sgd, adam or adamw.
        decay: of the learning rate of the weights, see `task.WeightSchedule`.
        warmup_steps: steps at the start of a training over which the learning rate of the weights rises.
        gradient_clip: largest norm of the weights' gradient; None for no limit.
        keep: the epoch whose weights are the result, last or best on the validation split.
        supervision: what the task's loss compares, see `antispoofing.AntiSpoofing`; drmc for detectors, identity for
            recognition.
        augmentation: of training pictures.
        candidate_epochs: epochs that random search trains a candidate for.
    """

    people: int | None
    data: str = "portraits"
    search_space: dict[str, Any] = field(default_factory=dict)
    train_space: dict[str, Any] = field(default_factory=dict)
    search_epochs: int = 40
    search_batch: int = 256
    warmup_epochs: int = 12
    search_learning_rate: float = 0.05
    arc_learning_rate: float = 6e-3
    arc_weight_decay: float = 1e-3
    train_epochs: int = 40
    train_batch: int = 256
    train_learning_rate: float = 0.05
    weight_decay: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    decay: Literal["cosine", "constant", "steps", "late_steps"] = "cosine"
    warmup_steps: int = 0
    gradient_clip: float | None = 5.0
    keep: Literal["last", "best"] = "last"
    supervision: str = "pixel"
    augmentation: str = "crop"
    candidate_epochs: int = 10


PTA_PAPER = Recipe(
    people=None,
    data="celeba-spoof",
    search_epochs=20,
    search_batch=32,
    warmup_epochs=0,
    search_learning_rate=1e-4,
    train_epochs=20,
    train_batch=32,
    train_learning_rate=1e-4,
    weight_decay=0.0,
    optimizer="adam",
    decay="constant",
    gradient_clip=None,
    keep="best",
    supervision="cross_entropy",
    augmentation="colour",
)

DETECTORS = ("autofem-fpn", "autofem-cpm", "asfd")
# section 4.1 of the ASFD paper; the search's batch, learning rate and split are not given there
ASFD_PAPER = Recipe(
    people=None,
    data="scenes",
    search_epochs=50,
    search_batch=48,
    warmup_epochs=20,
    search_learning_rate=0.015,
    arc_learning_rate=1e-2,
    arc_weight_decay=5e-4,
    train_epochs=50,
    train_batch=48,
    train_learning_rate=0.015,
    weight_decay=5e-4,
    decay="steps",
    warmup_steps=500,
    gradient_clip=None,
    supervision="drmc",
    augmentation="dsfd",
)
ASFD_QUICK = replace(
    ASFD_PAPER,
    search_space={
        "backbone": "mobilenet_0.25",
        "width": 32,
        "nodes": 4,
        "head_layers": 1,
        "lowest_level": 3,
        "image_size": 256,
    },
    search_epochs=8,
    search_batch=8,
    warmup_epochs=2,
    search_learning_rate=0.004,
    arc_learning_rate=5e-2,
    train_epochs=30,
    train_batch=8,
    train_learning_rate=0.008,
    optimizer="adam",  # a backbone from random weights does not start with the paper's SGD
    decay="cosine",
    warmup_steps=100,
    gradient_clip=10.0,
    candidate_epochs=4,
)

# section 4.1 of the AirFace paper: the loss study; its search is ours, the paper has none. 30 thousand steps of 1,024
# pictures are 61 epochs of the 0.5 million pictures of CASIA-WebFace
AIRFACE_PAPER = Recipe(
    people=None,
    data="packed",
    search_epochs=20,
    search_batch=256,
    warmup_epochs=6,
    search_learning_rate=0.1,
    train_epochs=61,
    train_batch=1024,
    train_learning_rate=0.1,
    weight_decay=5e-4,
    decay="late_steps",
    gradient_clip=None,
    supervision="identity",
)
AIRFACE_QUICK = replace(
    AIRFACE_PAPER,
    data="orl",
    augmentation="pose",  # ten pictures of a person in a studio say little of other poses
    search_space={"image_size": 96, "channels": 16, "repeats": [[1, 2], [1, 2, 3], [1, 2]], "embeddings": [64, 128]},
    search_epochs=30,
    search_batch=20,
    warmup_epochs=8,
    arc_learning_rate=5e-2,
    train_epochs=40,
    train_batch=40,
    train_learning_rate=0.1,
    decay="cosine",
    gradient_clip=5.0,
    candidate_epochs=10,
)

# the released code of HaTFAS; it searches nothing
HATFAS_PAPER = Recipe(
    people=None,
    data="hatfas",
    search_epochs=50,
    search_batch=128,
    warmup_epochs=15,
    search_learning_rate=1.25e-4,
    train_epochs=300,
    train_batch=128,
    train_learning_rate=1.25e-4,
    weight_decay=0.05,
    optimizer="adamw",
    warmup_steps=500,
    gradient_clip=None,
    supervision="cross_entropy",
    augmentation="deit",
)
HATFAS_QUICK = replace(
    HATFAS_PAPER,
    people=200,
    data="portraits",
    # smaller patches: print dots and screen pixels lie within one of 16, where a small network learns nothing of them
    search_space={"image_size": 96, "patch_size": 8, "embed": [64, 128], "depth": [2, 4], "mlp_ratio": [1, 2]},
    search_epochs=20,
    search_batch=16,
    warmup_epochs=6,
    search_learning_rate=1e-3,
    arc_learning_rate=5e-2,
    augmentation="crop",
    train_epochs=60,
    train_batch=16,
    train_learning_rate=1e-3,
    warmup_steps=100,
    gradient_clip=5.0,
    candidate_epochs=20,
)

RECIPES: dict[str, dict[str, Recipe]] = {
    "airface": {"paper": AIRFACE_PAPER, "quick": AIRFACE_QUICK},
    "hatfas": {"paper": HATFAS_PAPER, "quick": HATFAS_QUICK},
    **{space: {"paper": ASFD_PAPER, "quick": ASFD_QUICK} for space in DETECTORS},
    "autofas": {
        # section 3.3 of the paper; the retraining and the candidates' epochs are not given there
        "paper": Recipe(people=None, data="oulu-npu"),
        "quick": Recipe(
            people=200,
            search_space={"channels": 8, "layout": "RRNRN", "stem_multiplier": 1},
            train_space={"channels": 16},
            search_epochs=5,
            search_batch=18,
            warmup_epochs=1,
            arc_learning_rate=5e-2,
            train_epochs=18,
            train_batch=16,
            candidate_epochs=3,
        ),
    },
    "pta": {
        # section 4 of the paper; the learning rate's decay is not given there
        "paper": PTA_PAPER,
        "quick": replace(
            PTA_PAPER,
            people=200,
            data="portraits",
            search_epochs=20,
            search_batch=8,
            search_learning_rate=2e-3,
            arc_learning_rate=5e-2,
            train_epochs=20,
            train_batch=8,
            train_learning_rate=2e-3,
            decay="cosine",
            gradient_clip=5.0,
            candidate_epochs=3,
        ),
    },
}
# a user's own space starts from these; its own constructor's defaults are its widths
GENERAL = {
    name: replace(recipe, data="portraits", search_space={}, train_space={})
    for name, recipe in RECIPES["autofas"].items()
}


def find_recipe(space: str, name: str, data: str | None = None) -> Recipe:
    """The recipe called ``name`` for a space and a data set, by default the recipe's own.

    Raises:
        UnknownNameError: with the nearest name.
    """
    recipes = RECIPES.get(space, GENERAL)
    if name not in recipes:
        raise UnknownNameError("recipe", name, recipes)
    data = data or recipes[name].data
    recipe = replace(recipes[name], data=data)
    return recipe if data.startswith("portraits") else replace(recipe, people=None)


# what the space's paper gives (Auto-FAS in section 3.3, PTA in section 4); other values of the recipe "paper" are ours
WEIGHT_TRAINING = ("search_epochs", "search_batch", "search_learning_rate", "optimizer", "supervision", "augmentation")
PTA_TRAINING = (*WEIGHT_TRAINING, "keep")
ASFD_TRAINING = (
    "search_epochs",
    "warmup_epochs",
    "arc_learning_rate",
    "arc_weight_decay",
    "train_epochs",
    "train_batch",
    "train_learning_rate",
    "weight_decay",
    "optimizer",
    "decay",
    "warmup_steps",
    "supervision",
)
AIRFACE_TRAINING = (
    "train_epochs",
    "train_batch",
    "train_learning_rate",
    "weight_decay",
    "optimizer",
    "decay",
    "supervision",
)
HATFAS_TRAINING = (*AIRFACE_TRAINING, "warmup_steps", "augmentation")
GIVEN_BY_PAPER = {
    "airface": AIRFACE_TRAINING,
    "hatfas": HATFAS_TRAINING,
    **dict.fromkeys(DETECTORS, ASFD_TRAINING),
    "autofas": (*WEIGHT_TRAINING[:5], "arc_learning_rate", "arc_weight_decay", "weight_decay"),
    "pta": PTA_TRAINING,
}


def deviations(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where a run's options differ from what the paper does or from the recipe that stands for it.

    Returns:
        ``option, value, paper`` for each; ``paper`` is what the paper itself says, "not given" where our recipe
        called ``paper`` fills a gap.
    """
    paper = asdict(find_recipe(options["space"], "paper", options["data"]))
    given = GIVEN_BY_PAPER.get(options["space"], ())
    return [
        {"option": key, "value": options[key], "paper": paper[key] if key in given else "not given"}
        for key in paper
        if key in options and options[key] != paper[key]
    ]

"""What a run chose where its paper says nothing, and where it differs from the paper: shown in every report."""

from __future__ import annotations

from typing import Any

from .options import SearchOptions, SinglePathOptions

# option, what the paper says of it, the reason for our default
OPEN_OPTIONS = [
    ("order", "second (Eq. 5)", "The released PC-DARTS, on which the paper builds, takes the first; --order has both."),
    ("partial_channels", "K not given", "4 is PC-DARTS' own value."),
    ("edge_normalisation", "not mentioned", "Part of PC-DARTS; --no-edge-normalisation leaves it out."),
    ("warmup_epochs", "not given", "PC-DARTS warms up for 15 of 50 epochs, DARTS not at all."),
    ("gradient_clip", "not given", "DARTS' value."),
]
SCORES = {
    "pixel": ("mean of the map of probabilities", "As DeepPixBiS does."),
    "binary": ("probability of the map's mean logit", "What the binary loss trains."),
    "cross_entropy": ("softmax probability of live", "What the loss trains."),
}
# what is fixed: option, value, the reason
THRESHOLD = ("threshold", "equal errors on the validation split", "As DeepPixBiS does; the test split decides nothing.")
RULES = {
    "autofas": [
        THRESHOLD,
        ("training of the result", "as in the search: SGD, cosine", "The paper gives no recipe for it."),
    ],
    "pta": [
        THRESHOLD,
        ("colour jitter and ISO noise", "albumentations' default strengths", "The paper names the two, no strengths."),
        ("pictures", "random crop and mirror image too", "The paper names neither; small data sets need them."),
    ],
}
# of detectors: option of the task, what the paper says of it, the reason for our default
DETECTION = [
    ("margin", "m not given", "CosFace's order of size; it is a bias of logits that are not normalised."),
    ("regression_weight", "lambda_1 not given", "Both losses alike."),
    ("first_shot_weight", "lambda_2 not given", "DSFD weighs both shots alike."),
    ("negatives", "not given", "DSFD's three hard negatives a positive."),
    ("overlap", "0.3", "Of the non-maximum suppression."),
]
DETECTION_RULES = [
    ("anchors", "one a position, 1 : 1.5, four strides large; two in the first shot", "DSFD's."),
    ("matching", "IoU of 0.4, and the best free anchor of every face", "DSFD's."),
    ("augmentation", "crops that choose a face's size, SSD crops, mirror, colours", "DSFD's, which the paper follows."),
    ("halves of the search", "no person or event in both", "The paper does not say how it splits."),
]
# of face recognition: option of the task, what the paper says of it, the reason for our default
RECOGNITION = [
    ("losses", "Li-ArcFace in the study", "Its last networks were tuned with several losses in turn, which this can."),
    ("scale", "s not given", "The value of ArcFace's and of all public copies."),
    ("margin", "0.4 is best for Li-ArcFace", "Each loss has its own default."),
    ("embedding_decay", "10 (section 4.1)", "The paper's."),
    ("flip", "not given", "InsightFace judges by a picture and its mirror image."),
]
RECOGNITION_RULES = [
    ("halves of the search", "half of each person's pictures", "Both need the people; the paper searches nothing."),
    ("choice among trained candidates", "people of the validation split", "No candidate was trained on them."),
    ("threshold", "equal errors on the judged pairs", "Verification is told at every threshold (TAR at FAR)."),
]
# a sampled training of PTA besides: option, paper, the reason
SAMPLED = [
    ("validated", "HHH (Fig. 2)", "The epoch with this configuration's lowest validation EER is kept."),
    ("recalibrate", "not mentioned", "Shown beside the statistics of the training, which are the paper's."),
]
WHY = {"quick": "quick recipe: two CPU cores, minutes"}
SET = "set for this run"


def open_choices(options: SearchOptions) -> list[dict[str, Any]]:
    """A row for each choice: ``option``, ``value``, ``paper`` and ``why``."""
    from dataclasses import asdict

    from evaluators.recipes import deviations, find_recipe
    from searchspaces.registry import find_space

    recipe = find_recipe(options.space, options.recipe, options.data)
    why_of_recipe = WHY.get(options.recipe, f"the recipe {options.recipe}")
    used, usual = options.space_options | options.train_options, recipe.search_space | recipe.train_space
    rows = []
    for choice in find_space(options.space).open_choices:
        value = used.get(choice.option, choice.default)
        why = choice.why
        if value != choice.default:
            origin = why_of_recipe if value == usual.get(choice.option) else SET
            why = f"{origin}; default {choice.default}: {choice.why}"
        rows.append({"option": choice.option, "value": value, "paper": "not given", "why": why})
    for row in deviations(asdict(options)):
        if row["option"] != "warmup_epochs":  # has a row of its own
            usual_value = getattr(recipe, row["option"])
            rows.append({**row, "why": why_of_recipe if row["value"] == usual_value else SET})
    for option, paper, why in OPEN_OPTIONS:
        value = getattr(options, option, None)
        if value is not None:
            rows.append({"option": option, "value": value, "paper": paper, "why": why})
    if options.space == "pta" and isinstance(options, SinglePathOptions):
        for option, paper, why in SAMPLED:
            rows.append({"option": option, "value": getattr(options, option), "paper": paper, "why": why})
        if options.uniform or options.sampling:
            value = "all alike" if options.uniform else options.sampling
            rows.append({"option": "sampling", "value": value, "paper": "Table 2", "why": SET})
    task = find_space_task(options.space)
    if task in TASK_ROWS:
        return rows + task_choices(options, task)
    if options.space == "autofas" and not hasattr(options, "partial_channels"):
        rows.append(
            {"option": "partial channels", "value": "not used", "paper": "used", "why": "strategies.pc_darts does"}
        )
    score = SCORES[options.supervision or recipe.supervision]
    rules = RULES.get(options.space, [THRESHOLD])
    rows.append({"option": "score", "value": score[0], "paper": "not given", "why": score[1]})
    rows.extend({"option": option, "value": value, "paper": "not given", "why": why} for option, value, why in rules)
    return rows


def find_space_task(space: str) -> str:
    """The task of a space's networks."""
    from searchspaces.registry import find_space

    return getattr(find_space(space).space_class, "task", "antispoofing")


TASK_ROWS = {"detection": (DETECTION, DETECTION_RULES), "recognition": (RECOGNITION, RECOGNITION_RULES)}


def task_choices(options: SearchOptions, task: str) -> list[dict[str, Any]]:
    """Rows of what is particular to face detection or recognition."""
    import inspect

    from evaluators.detection import Detection
    from evaluators.recognition import Recognition

    kind: type = {"detection": Detection, "recognition": Recognition}[task]
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    open_rows, rules = TASK_ROWS[task]
    rows = []
    for option, paper, why in open_rows:
        value = options.task_options.get(option, defaults[option])
        rows.append(
            {"option": option, "value": value, "paper": paper, "why": why if value == defaults[option] else SET}
        )
    fixed = [{"option": o, "value": value, "paper": "not given", "why": why} for o, value, why in rules]
    return rows + fixed

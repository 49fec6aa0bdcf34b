"""Options of the search commands: one dataclass a strategy, the source of command lines and config files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from searchspaces.cli import parse_values
from searchspaces.errors import ConfigError

# not part of what a run is: how this call treats the folder
CALL_ONLY = ("resume", "overwrite", "plan")
# what a resumed run may do differently
MAY_CHANGE = ("out", "accelerator", "devices", "threads", "workers")


@dataclass(frozen=True)
class SearchOptions:
    """Options of every search. An option that is left out is taken from the recipe.

    Args:
        space: the search space, or package.module:ClassName of your own.
        data: the data set. For anti-spoofing "portraits" is made from a package's portraits with simulated attacks,
            "folder" is yours; for detectors "scenes" is made from the same portraits, "wider-face" is WIDER FACE; for
            recognition "orl" is the faces of AT&T, "identities" and "packed" are yours. "oulu-npu", "casia-fasd",
            "replay-attack" and "celeba-spoof" are licensed sets, prepared by evaluators.prepare;
            package.module:function is a builder of your own.
        data_root: the folder of the data set, for data sets that have one.
        protocol: of the data set, where it has several, such as 1 to 4 of oulu-npu.
        fold: of the protocol, where it has several: 1 to 6 in protocols 3 and 4 of oulu-npu.
        train_data: another name of data, for cross-testing.
        test_data: a data set for the test alone; the validation split of data chooses the threshold.
        test_data_root: its folder.
        test_protocol: its protocol.
        data_seed: seed of generated data.
        people: how many people of the data set are used.
        recipe: hyper-parameters by name; quick for two CPU cores, paper for a GPU and licensed data.
        supervision: pixel-wise binary (Eq. 6 of the Auto-FAS paper) or binary (its Table 3) for maps of logits,
            cross_entropy for two logits (Eq. 1 of the PTA paper), drmc for detectors (Eq. 8 of the ASFD paper),
            identity for face recognition, whose losses are task_options.
        augmentation: of training pictures: crop and mirror; colour, with colour jitter and ISO noise too; pose, turned,
            scaled and exposed otherwise too, for recognition from few pictures; deit, RandAugment, erasing, mixup and
            cutmix, as HaTFAS is trained; dsfd for detectors, crops that choose a
            face's size and photometric distortion.
        task_options: of face detection or recognition, such as '{"margin": 0.35}' or '{"losses": [["arcface", 1]]}';
            see evaluators.detection and evaluators.recognition.
        teacher: a network that the result, and every candidate that is trained, learns from too: a run folder,
            timm:NAME:WEIGHTS, or a file ending in .onnx; see evaluators.teachers.
        distillation: how, such as '{"alpha": 0.7, "temperature": 3}'; see evaluators.distillation.
        seed: seed of weights, architecture parameters, data order and choices.
        out: the run folder; runs/SPACE-STRATEGY-SEED by default.
        resume: go on with the run in the folder, with its own options.
        overwrite: replace the run in the folder.
        plan: only tell how large the space is and what the search would take; nothing is trained or written.
        baseline: also run random search with the same budget, shown beside the result; for a sampled training of pta
            MobileNetV2, trained alone.
        accelerator: where to compute.
        devices: GPUs, or processes on a CPU, that share every batch of a one-shot search and of the training of its
            result; the result is that of one, up to rounding.
        threads: CPU threads; all cores by default.
        workers: processes that read pictures; by default none, or several where each picture is a file to decode.
        space_options: options of the space during the search.
        train_options: options of the space for the network that is trained, on top of space_options.
        search_epochs: epochs of a one-shot search.
        search_batch: batch size of the search.
        search_learning_rate: learning rate of the weights during the search.
        train_epochs: epochs of the training of the result; a sampled training of pta has none, and trains MobileNetV2
            beside it as it was trained itself.
        train_batch: batch size of the training of the result.
        train_learning_rate: learning rate of the training of the result.
        weight_decay: weight decay of the weights.
        optimizer: of the weights, in the search and in the training.
        decay: how the learning rate of the weights falls.
        warmup_steps: steps at the start over which that learning rate rises.
        gradient_clip: largest norm of the weights' gradient, in the search and in the training.
        keep: the epoch whose weights are the result of the training, the last or the best on the validation split.
        candidate_epochs: epochs that random search trains a candidate for.
        macs_budget: most multiply-accumulates of the result, such as 30M, or 60% of the space's largest network.
        params_budget: most parameters of the result, likewise.
        latency_budget: most milliseconds of the result on the device of device_profile, or a share likewise.
        device_profile: a device's profile, as hardware.fit writes it, or the name of a shipped one.
    """

    space: str = "autofas"
    data: str | None = None
    data_root: str | None = None
    protocol: str | None = None
    fold: int | None = None
    train_data: str | None = None
    test_data: str | None = None
    test_data_root: str | None = None
    test_protocol: str | None = None
    data_seed: int = 0
    people: int | None = None
    recipe: str = "quick"
    supervision: Literal["pixel", "binary", "cross_entropy", "drmc", "identity"] | None = None
    augmentation: Literal["crop", "colour", "pose", "deit", "dsfd"] | None = None
    task_options: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    distillation: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    out: str | None = None
    resume: bool = False
    overwrite: bool = False
    plan: bool = False
    baseline: bool = True
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    threads: int | None = None
    workers: int | None = None
    space_options: dict[str, Any] = field(default_factory=dict)
    train_options: dict[str, Any] = field(default_factory=dict)
    search_epochs: int | None = None
    search_batch: int | None = None
    search_learning_rate: float | None = None
    train_epochs: int | None = None
    train_batch: int | None = None
    train_learning_rate: float | None = None
    weight_decay: float | None = None
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    decay: Literal["cosine", "constant", "steps", "late_steps"] | None = None
    warmup_steps: int | None = None
    gradient_clip: float | None = None
    keep: Literal["last", "best"] | None = None
    candidate_epochs: int | None = None
    macs_budget: str | None = None
    params_budget: str | None = None
    latency_budget: str | None = None
    device_profile: str | None = None


@dataclass(frozen=True)
class DifferentiableOptions(SearchOptions):
    """Options of the searches that learn architecture parameters.

    Args:
        guard: what to do when the search collapses to skip connections.
        arc_learning_rate: learning rate of the architecture parameters.
        arc_weight_decay: weight decay of the architecture parameters.
        cost_weight: how strongly the search is kept to its budget.
        recompute: keep of every searched module its inputs alone and compute it again in the backward pass: less
            memory, half as much time again, the same results. First order only.
        memory_budget: the most memory that the search may take, such as 4GiB: of the process, or of each GPU. Where
            the recipe's batch does not fit, modules are recomputed; else K of PC-DARTS grows; else the batch is halved.
    """

    guard: Literal["stop", "warn", "off"] = "stop"
    arc_learning_rate: float | None = None
    arc_weight_decay: float | None = None
    cost_weight: float = 1.0
    recompute: bool = False
    memory_budget: str | None = None


@dataclass(frozen=True)
class DartsOptions(DifferentiableOptions):
    """Options of DARTS.

    Args:
        order: first, or second (the unrolled gradient, Eq. 5 of the Auto-FAS paper; several times slower).
        hessian: second order by differentiating twice, or by the finite difference of DARTS.
        hessian_epsilon: radius of that difference.
        warmup_epochs: epochs at the start in which only the weights learn.
    """

    order: Literal["first", "second"] = "first"
    hessian: Literal["exact", "difference"] = "exact"
    hessian_epsilon: float = 0.01
    warmup_epochs: int = 0


@dataclass(frozen=True)
class PCDartsOptions(DifferentiableOptions):
    """Options of PC-DARTS.

    Args:
        partial_channels: K; 1/K of the channels pass through the operations.
        edge_normalisation: learn a weight for each edge.
        order: first, or second (the unrolled gradient).
        hessian: second order by differentiating twice, or by the finite difference of DARTS.
        hessian_epsilon: radius of that difference.
        warmup_epochs: epochs at the start in which only the weights learn.
    """

    partial_channels: int = 4
    edge_normalisation: bool = True
    order: Literal["first", "second"] = "first"
    hessian: Literal["exact", "difference"] = "exact"
    hessian_epsilon: float = 0.01
    warmup_epochs: int | None = None


@dataclass(frozen=True)
class RandomSearchOptions(SearchOptions):
    """Options of random search.

    Args:
        budget_macs: multiply-accumulates of all passes; by default what first-order DARTS costs with this recipe.
        max_candidates: no more candidates than this.
    """

    budget_macs: float | None = None
    max_candidates: int | None = None


@dataclass(frozen=True)
class GumbelOptions(DifferentiableOptions):
    """Options of the Gumbel single path.

    Args:
        sampled: edges (as the ASFD paper does: one parent a node runs, its operations are mixed), operations (as GDAS
            does: one operation an edge), or both; auto is edges where a space chooses them.
        partial_channels: K; 1/K of the channels pass through mixed operations; by default 4, and all where one
            operation is sampled.
        warmup_epochs: epochs at the start in which only the weights learn; for detectors from the recipe.
    """

    sampled: Literal["auto", "edges", "operations", "both"] = "auto"
    partial_channels: int | None = None
    warmup_epochs: int | None = None


@dataclass(frozen=True)
class SinglePathOptions(SearchOptions):
    """Options of sampled single paths.

    Args:
        sampling: configurations and how likely each is drawn, such as '{"HHH": 0.5, "LLL": 0.5}'; on pta Table 2 of
            its paper by default, on other spaces all points alike.
        uniform: draw all points of the space alike.
        validated: on pta the configuration that is judged after every epoch; its best epoch is kept.
        recalibrate: on pta which configurations are judged once more with batch-norm statistics of their own.
        judged_paths: on other spaces, how many random paths are judged with the trained weights to find the result.
    """

    sampling: dict[str, float] = field(default_factory=dict)
    uniform: bool = False
    validated: str = "HHH"
    recalibrate: Literal["none", "reported", "all"] = "reported"
    judged_paths: int = 40


@dataclass(frozen=True)
class EvolutionOptions(RandomSearchOptions):
    """Options of regularised evolution.

    Args:
        population: members that are alive; the first so many candidates are random.
        tournament: members of which the best becomes the parent.
        mutation: probability that a choice of the parent is drawn anew.
    """

    population: int = 5
    tournament: int = 3
    mutation: float = 0.1


OPTIONS: dict[str, type[SearchOptions]] = {
    "darts": DartsOptions,
    "pc_darts": PCDartsOptions,
    "gumbel": GumbelOptions,
    "single_path": SinglePathOptions,
    "random_search": RandomSearchOptions,
    "evolution": EvolutionOptions,
}


def resolve(options: SearchOptions) -> SearchOptions:
    """All options that were left out filled in from the recipe, and all checked.

    Raises:
        FacenasError: naming the option that cannot be used.
    """
    from evaluators.recipes import find_recipe

    options = one_name(options)
    recipe = asdict(find_recipe(options.space, options.recipe, options.data))
    changes: dict[str, Any] = {
        name: recipe[name] for name in recipe if getattr(options, name, 0) is None and recipe[name] is not None
    }
    changes["space_options"] = {**recipe["search_space"], **(options.space_options or {})}
    changes["train_options"] = {**recipe["train_space"], **(options.train_options or {})}
    resolved = replace(options, **changes)
    counts = ("search_epochs", "search_batch", "train_epochs", "train_batch", "candidate_epochs", "people", "threads")
    for name in (*counts, "max_candidates", "judged_paths"):
        _require(resolved, name, lambda value: value >= 1, "at least 1")
    for name in (
        "search_learning_rate",
        "arc_learning_rate",
        "train_learning_rate",
        "budget_macs",
        "hessian_epsilon",
        "gradient_clip",
        "cost_weight",
    ):
        _require(resolved, name, lambda value: value > 0, "above 0")
    for name in ("weight_decay", "arc_weight_decay", "seed", "data_seed", "warmup_epochs", "warmup_steps", "workers"):
        _require(resolved, name, lambda value: value >= 0, "at least 0")
    epochs, warmup = resolved.search_epochs or 0, getattr(resolved, "warmup_epochs", 0) or 0
    if warmup and warmup >= epochs:
        raise ConfigError(f"warmup_epochs is {warmup}, but the search has {epochs} epochs: nothing would be searched.")
    if getattr(resolved, "recompute", False) and getattr(resolved, "order", "first") != "first":
        raise ConfigError("--recompute is for the first order: the second differentiates gradients again.")
    if resolved.resume and resolved.overwrite:
        raise ConfigError("--resume goes on with a run, --overwrite replaces it: give one of them.")
    return resolved


def one_name(options: SearchOptions) -> SearchOptions:
    """``train_data`` is another name of ``data``; a run has the latter only.

    Raises:
        ConfigError: if both are given and differ.
    """
    if options.train_data is None:
        return options
    if options.data not in (None, options.train_data):
        raise ConfigError(
            f"data is {options.data!r} and train_data {options.train_data!r}: they are the same. Give one."
        )
    return replace(options, data=options.train_data, train_data=None)


def _require(options: SearchOptions, name: str, holds: Any, bound: str) -> None:
    value = getattr(options, name, None)
    if value is not None and not holds(value):
        raise ConfigError(f"Option {name!r} is {value!r}; it must be {bound}.")


def _repeats(value: Any, saved: Any) -> bool:
    """Whether an option says no other thing than the run's, to whose options of a space the recipe's were added."""
    if isinstance(value, dict) and isinstance(saved, dict):
        return all(key in saved and saved[key] == item for key, item in value.items())
    return bool(value == saved)


def to_dict(options: SearchOptions) -> dict[str, Any]:
    """The options as config.yaml holds them."""
    return {key: value for key, value in asdict(options).items() if key not in CALL_ONLY}


def from_run(given: SearchOptions, saved: dict[str, Any]) -> SearchOptions:
    """The options of a run that is resumed, which an option of this call may repeat but not change.

    Where the run computes may change: ``accelerator``, ``devices`` and ``threads`` are taken from this call.

    Raises:
        ConfigError: naming an option that differs.
    """
    given = one_name(given)
    kind = type(given)
    defaults = asdict(kind())
    try:
        restored = parse_values(kind, saved)
    except ConfigError as error:
        raise ConfigError(f"The run's config.yaml is damaged, or of another strategy or version: {error}") from error
    for name, value in asdict(given).items():
        if name in saved and value != defaults[name] and name not in MAY_CHANGE and not _repeats(value, saved[name]):
            raise ConfigError(f"Option {name!r} is {value!r}, but the run was started with {saved[name]!r}.")
    return replace(restored, resume=True, **{name: getattr(given, name) for name in MAY_CHANGE})

"""Distillation around any task: a teacher's outputs, and features where layers can be paired, beside the task's loss.

HaTFAS (Zhang et al., 2024), as its released code computes it::

    L = (1 - alpha) L_task + alpha tau^2 KL(p_teacher || p_student) + beta mean_l L_l

Each L_l is `distillation_losses.head_aware_loss` of one pair of layers. The teacher sees the very pictures that the
student sees, augmentation included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from searchspaces.errors import ConfigError, nearest_name

from .distillation_losses import MODES, head_aware_loss
from .sharing import whole
from .task import Task, WeightSchedule
from .teachers import Teacher, load_teacher
from .train import FixedModule

# layers of the paper, counted from 0, as parts of the depth: the 5th, 7th and 9th of 12 blocks
PLACES = (5 / 12, 7 / 12, 9 / 12)
Tokens = Literal["auto", "projected", "heads", "released"]


@dataclass(frozen=True)
class Distillation:
    """How a teacher teaches; the paper's values for alpha, beta, temperature and the layers.

    Attributes:
        alpha: share of the teacher's outputs in the loss; the task's own loss has the rest.
        beta: weight of the mean over the pairs of layers. With ``repo`` it depends on the batch size, see
            `head_aware_loss`.
        temperature: tau.
        features: mode of `head_aware_loss`, or ``off``; ``auto`` is ``headwise`` between two transformers whose heads
            have one size, ``gram_mean`` where ``layers`` are given or the sizes differ, and off without any.
        tokens: what is compared of a transformer's layer, always the class token: ``projected``, what its attention
            gives for its own input; ``heads``, the same before the heads are mixed; ``released``, the released code's
            shortcut, in which every layer's attention is applied to the embeddings: it is no feature of a depth.
            ``auto`` is ``heads`` for ``headwise``, else ``projected``.
        layers: pairs of a student's and a teacher's layer: numbers of blocks from 0 between transformers, else names of
            modules, whose maps are averaged. By default `block_pairs`.
    """

    alpha: float = 0.7
    beta: float = 1.0
    temperature: float = 3.0
    features: str = "auto"
    tokens: Tokens = "auto"
    layers: tuple[tuple[Any, Any], ...] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Distillation:
        """From the value of ``--distillation``.

        Raises:
            ConfigError: for an unknown key, with the nearest one, or a value that cannot be used.
        """
        known = [field.name for field in fields(cls)]
        for key in options:
            if key not in known:
                near = nearest_name(key, known)
                hint = f" Did you mean {near!r}?" if near else ""
                raise ConfigError(f"Distillation has no option {key!r}.{hint} Known: {', '.join(known)}.")
        given = dict(options)
        if "layers" in given:
            pairs = given["layers"]
            if not (isinstance(pairs, list) and all(isinstance(p, list) and len(p) == 2 for p in pairs)):
                raise ConfigError(f"layers of distillation are {pairs!r}, but must be pairs such as [[4, 4], [6, 6]].")
            given["layers"] = tuple((a, b) for a, b in pairs)
        found = cls(**given)
        for name, low, high in (("alpha", 0.0, 1.0), ("beta", 0.0, 1e6), ("temperature", 1e-3, 1e3)):
            value = getattr(found, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ConfigError(f"{name} of distillation is {value!r}, but must be from {low:g} to {high:g}.")
        if found.features not in ("auto", "off", *MODES):
            raise ConfigError(
                f"features of distillation are {found.features!r}; expected auto, off, {', '.join(MODES)}."
            )
        if found.tokens not in ("auto", "projected", "heads", "released"):
            raise ConfigError(f"tokens of distillation are {found.tokens!r}; expected projected, heads or released.")
        return found


@dataclass(frozen=True)
class Teaching:
    """A teacher, and how it teaches."""

    teacher: Teacher
    options: Distillation

    def plan(self, student: nn.Module) -> FeaturePlan | None:
        """Which layers are compared, and how; None if none are.

        Raises:
            ConfigError: if features are asked for that these two networks do not have.
        """
        return plan_features(student, self.teacher.network, self.options)

    def check(self, task: Task, student: nn.Module) -> None:
        """Let both look at two empty pictures.

        Raises:
            ConfigError: if the teacher cannot take them, its outputs are not finite or not of the student's kind.
        """
        pictures = torch.zeros(2, 3, task.image_size, task.image_size)
        student.eval()
        with torch.no_grad():
            own = student(pictures)
            try:
                taught = self.teacher(pictures)
            except ConfigError:
                raise
            except Exception as error:  # whatever a network of a stranger makes of another size
                raise ConfigError(
                    f"The teacher ({self.teacher.name}) cannot take pictures of {task.image_size} pixels, which the "
                    f"student takes: {str(error).splitlines()[0]}"
                ) from error
        if not isinstance(taught, Tensor) or not torch.isfinite(taught).all():
            raise ConfigError(f"The teacher ({self.teacher.name}) gives no finite outputs.")
        if not task.can_imitate(own, taught):
            raise ConfigError(
                f"The teacher ({self.teacher.name}) gives outputs of shape {tuple(taught.shape)}, the student "
                f"{tuple(own.shape)}: it must be trained for the same task and the same classes, and embeddings must "
                "have one length."
            )
        plan = self.plan(student)
        if plan:
            with torch.no_grad():
                plan.loss(student, self.teacher.network, lambda: student(pictures), lambda: self.teacher(pictures))


def build_teaching(
    text: str, options: Mapping[str, Any], task: Task, space: Any, student: nn.Module | None = None
) -> Teaching:
    """The teaching that ``--teacher`` and ``--distillation`` describe, checked against those who will learn.

    Args:
        student: the network that learns; without it any network of the space may, or the space is a network itself.

    Raises:
        ConfigError: if anything of it does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of weights that are said to be random
        students = [student] if student is not None else end_networks(space)
        how = Distillation.from_options(options)
        with torch.no_grad():
            own = students[0].eval()(torch.zeros(1, 3, task.image_size, task.image_size))
        teaching = Teaching(load_teacher(text, space.input_size, own.shape[1]), how)
        for each in students:
            teaching.check(task, each)
    return teaching


def end_networks(space: Any) -> list[nn.Module]:
    """The networks of a space with the first and with the last value of each choice, such as all sizes smallest.

    What not every network of the space can be taught, by depth or length of the embedding, shows at one of them. Values
    that are several of a list are drawn, always the same. A network of a space is its own only one.
    """
    from nni.mutable import Categorical, SampleValidationError
    from numpy.random import RandomState

    from searchspaces.sampling import random_choices

    choices = space.simplify() if hasattr(space, "simplify") else {}
    if not choices:
        return [space]
    drawn = random_choices(space, RandomState(0))
    single = {label: choice.values for label, choice in choices.items() if isinstance(choice, Categorical)}
    found = []
    for end in (0, -1):
        with suppress(SampleValidationError):  # a space of one's own may forbid that combination
            found.append(space.freeze(drawn | {label: values[end] for label, values in single.items()}))
    return found or [space.freeze(drawn)]


class DistilledModule(FixedModule):
    """Trains a network for a task beside a teacher, which is in no checkpoint and gets no gradient."""

    def __init__(self, task: Task, schedule: WeightSchedule) -> None:
        super().__init__(task, schedule)
        assert task.teaching is not None
        self._teaching = [task.teaching]  # in a list: not a part of this module
        self._plan: list[FeaturePlan | None] = []

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._teaching[0].teacher.to(self.device)

    def step(self, batch: tuple[Tensor, Any]) -> dict[str, Tensor]:
        pictures, targets = batch
        teaching = self._teaching[0]
        options, teacher = teaching.options, teaching.teacher
        if not self._plan:
            self._plan.append(teaching.plan(self.model))
        plan = self._plan[0]
        features = torch.zeros((), device=pictures.device)
        if plan is None or options.beta == 0:
            outputs, taught = self(pictures), self._taught(teacher, pictures)
        else:
            found = plan.loss(
                self.model, teacher.network, lambda: self(pictures), lambda: self._taught(teacher, pictures)
            )
            outputs, taught, features = found
        own = self.task.losses_at(outputs if self.head is None else self.head(outputs), targets, self.progress)
        imitation = self.task.imitation(outputs, taught, options.temperature)
        loss = (1 - options.alpha) * own["loss"] + options.alpha * imitation + options.beta * features
        return {**own, "loss": loss}

    @staticmethod
    @torch.no_grad()
    def _taught(teacher: Teacher, pictures: Tensor) -> Tensor:
        return teacher(pictures)


# ---- features


@dataclass(frozen=True)
class FeaturePlan:
    """Pairs of layers that are compared.

    Attributes:
        pairs: of a student's and a teacher's layer.
        mode: of `head_aware_loss`; tokens: see `Distillation`; None where modules are named.
    """

    pairs: tuple[tuple[Any, Any], ...]
    mode: Any
    tokens: str | None

    def loss(self, student: nn.Module, teacher: nn.Module, run: Any, run_teacher: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of both networks, and the mean of the pairs' losses.

        Args:
            run, run_teacher: compute the outputs on the same pictures.
        """
        with read_layers(student, [pair[0] for pair in self.pairs], self.tokens) as own:
            outputs = run()
        with read_layers(teacher, [pair[1] for pair in self.pairs], self.tokens) as theirs:
            taught = run_teacher()
        # how alike the pictures of a batch are: no mean over pictures, so processes that share one need all of them
        losses = [head_aware_loss(whole(own(a)), whole(theirs(b).detach()), self.mode) for a, b in self.pairs]
        return outputs, taught, torch.stack(losses).mean()


def block_pairs(student: int, teacher: int) -> list[tuple[int, int]]:
    """Blocks of both depths at the same parts of it: the paper's 4, 6 and 8 (from 0) where both have 12.

    >>> block_pairs(12, 12), block_pairs(6, 12), block_pairs(2, 4)
    ([(4, 4), (6, 6), (8, 8)], [(2, 4), (3, 6), (4, 8)], [(0, 1), (1, 2)])
    """
    pairs = {}
    for place in PLACES:
        own, theirs = (max(0, min(depth - 1, _round(place * depth) - 1)) for depth in (student, teacher))
        pairs[own] = theirs
    return sorted(pairs.items())


def _round(value: float) -> int:
    """To the nearest, halves up."""
    return int(value + 0.5)


def transformer_of(network: nn.Module) -> Any:
    """Timm's vision transformer inside of a network, or None."""
    from timm.models.vision_transformer import VisionTransformer

    return next((module for module in network.modules() if isinstance(module, VisionTransformer)), None)


def plan_features(student: nn.Module, teacher: nn.Module, options: Distillation) -> FeaturePlan | None:
    """See `Teaching.plan`."""
    if options.features == "off":
        return None
    own, theirs = transformer_of(student), transformer_of(teacher)
    named = any(isinstance(layer, str) for pair in options.layers for layer in pair)
    if named or own is None or theirs is None:
        return _named_plan(student, teacher, options)
    heads = [vit.blocks[0].attn.head_dim for vit in (own, theirs)]
    mode = options.features
    if mode == "auto":
        mode = "headwise" if heads[0] == heads[1] else "gram_mean"
    tokens = options.tokens if options.tokens != "auto" else "heads" if mode == "headwise" else "projected"
    if (mode == "headwise") != (tokens == "heads"):
        raise ConfigError(
            f"features {mode!r} do not go with tokens {tokens!r}: headwise compares heads, and nothing else does."
        )
    pairs = options.layers or tuple(block_pairs(len(own.blocks), len(theirs.blocks)))
    for place, (name, vit) in enumerate((("student", own), ("teacher", theirs))):
        wrong = [pair[place] for pair in pairs if not 0 <= pair[place] < len(vit.blocks)]
        if wrong:
            raise ConfigError(
                f"layers of distillation: the {name} has blocks 0 to {len(vit.blocks) - 1}, not {wrong[0]}."
            )
    return FeaturePlan(tuple(pairs), mode, tokens)


def _named_plan(student: nn.Module, teacher: nn.Module, options: Distillation) -> FeaturePlan | None:
    if not options.layers:
        if options.features in ("auto", "off"):
            return None
        raise ConfigError(
            f"features {options.features!r} need layers to compare: these networks are not both transformers, so name "
            'a module of each (--distillation \'{"layers": [["features.8", "features.8"]]}\').'
        )
    mode = "gram_mean" if options.features == "auto" else options.features
    if mode == "headwise":
        raise ConfigError("features headwise need two transformers: use gram_mean.")
    for place, (name, network) in enumerate((("student", student), ("teacher", teacher))):
        modules = dict(network.named_modules())
        for layer in (pair[place] for pair in options.layers):
            if layer not in modules:
                near = nearest_name(str(layer), modules)
                raise ConfigError(f"The {name} has no layer {layer!r}.{f' Did you mean {near!r}?' if near else ''}")
    return FeaturePlan(options.layers, mode, None)


@contextmanager
def read_layers(network: nn.Module, layers: Sequence[Any], tokens: str | None) -> Iterator[Any]:
    """Inside the block the network's passes are watched; yields a function from a layer to its feature.

    Args:
        layers: numbers of blocks, or names of modules where ``tokens`` is None.
        tokens: see `Distillation`.
    """
    seen: dict[Any, Tensor] = {}
    with ExitStack() as stack:
        if tokens is None:
            modules = dict(network.named_modules())
            for layer in layers:
                stack.enter_context(_watch(modules[layer], seen, layer))
            yield lambda layer: pooled(seen[layer])
            return
        vit = transformer_of(network)
        if tokens == "released":
            stack.enter_context(_watch(vit.blocks[0], seen, "embeddings", before=True))
            yield lambda layer: vit.blocks[layer].attn(vit.blocks[layer].norm1(seen["embeddings"]))[:, 0]
            return
        for layer in layers:
            attention = vit.blocks[layer].attn
            module = attention.proj if tokens == "heads" else attention
            stack.enter_context(_watch(module, seen, layer, before=tokens == "heads"))
        if tokens == "heads":
            yield lambda layer: seen[layer][:, 0].unflatten(1, (vit.blocks[layer].attn.num_heads, -1))
        else:
            yield lambda layer: seen[layer][:, 0]


@contextmanager
def _watch(module: nn.Module, seen: dict[Any, Tensor], key: Any, before: bool = False) -> Iterator[None]:
    """Keep what goes into a module, or what comes out of it."""

    def keep_input(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[key] = inputs[0]

    def keep_output(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen[key] = output

    handle = module.register_forward_pre_hook(keep_input) if before else module.register_forward_hook(keep_output)
    try:
        yield
    finally:
        handle.remove()


def pooled(feature: Tensor) -> Tensor:
    """A feature as ``(N, C)``: maps are averaged, of tokens ``(N, T, C)`` the first is taken."""
    if feature.ndim == 4:
        return feature.mean(dim=(2, 3))
    return feature[:, 0] if feature.ndim == 3 else feature.flatten(1)

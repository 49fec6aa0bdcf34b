"""The step of a differentiable search: weights on the train half, architecture on the validation half.

Eq. 4 and 5 of the Auto-FAS paper, which are DARTS' (Liu et al., ICLR 2019): the architecture follows

    grad_alpha L_val(w - xi * grad_w L_train(w, alpha), alpha)

With ``order="first"``, xi is 0: the gradient at the present weights. With ``order="second"``, xi is the weights'
learning rate, and the mixed second derivative is exact (DARTS Eq. 7) or DARTS' finite difference (Eq. 8).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from torch import Tensor, nn
from torch.autograd import forward_ad

from evaluators.sharing import average, check_strategy, mean_values
from searchspaces.errors import ConfigError, DivergenceError

from .collapse import CollapseGuard, none_share, normalised_entropy, skip_share
from .cost import Budget, CostTable
from .fused import composed_arithmetic, is_fused, plain_arithmetic
from .stand_in import StandIn

LossFunction = Callable[[], Tensor]


def unrolled_gradient(
    train_loss: LossFunction,
    val_loss: LossFunction,
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    buffers: Sequence[Tensor | None] = (),
    weight_decay: float = 0.0,
    hessian: Literal["exact", "difference"] = "exact",
    epsilon: float = 0.01,
    forward: bool = False,
) -> list[Tensor]:
    """Gradient of ``L_val(w', alpha)`` by alpha, where ``w'`` is one SGD step of the weights on ``L_train``.

    DARTS Eq. 7: ``grad_alpha L_val(w', alpha) - xi * v . d/dw d/dalpha L_train(w, alpha)`` with
    ``v = grad_w' L_val(w', alpha)``. The step has momentum and weight decay as torch's SGD has; neither depends on
    alpha. The weights are the same afterwards, bit for bit.

    Args:
        train_loss: computes L_train from the present values of the weights and alphas; a scalar.
        val_loss: the same for L_val.
        learning_rate: xi, the size of the virtual step.
        buffers: the momentum buffer of each weight, None where there is none yet.
        hessian: ``exact`` differentiates twice; ``difference`` is DARTS Eq. 8, two more gradients at ``w +- e v`` with
            ``e = epsilon / |v|``. On a network with ReLU and max-pooling, whose loss has kinks, the difference can be
            further from the true product than that is large, so it is offered for comparison only.
        epsilon: radius of the difference; 0.01 in DARTS.
        forward: take the exact product by `mixed_product_forward`, where the loss is of operations that know tangents.

    Returns:
        One gradient for each alpha.
    """
    step = _gradients(train_loss(), weights)
    saved = [weight.detach().clone() for weight in weights]
    buffers = buffers or [None] * len(weights)
    try:
        with torch.no_grad():
            for weight, gradient, buffer in zip(weights, step, buffers, strict=True):
                direction = gradient + weight_decay * weight
                weight.sub_(learning_rate * (direction if buffer is None else momentum * buffer + direction))
        at_step = _gradients(val_loss(), [*alphas, *weights])
    finally:
        _restore(weights, saved)
    direct, vector = at_step[: len(alphas)], at_step[len(alphas) :]
    if hessian == "difference":
        product = mixed_product_by_difference(train_loss, weights, alphas, vector, epsilon)
    else:
        exact = exact_product if forward else mixed_product
        product = exact(train_loss, weights, alphas, vector)
    return [d - learning_rate * p for d, p in zip(direct, product, strict=True)]


def mixed_product(
    loss: LossFunction, weights: Sequence[Tensor], alphas: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """``v . d/dw d/dalpha L`` by differentiating twice: the gradient by alpha of ``v . grad_w L``.

    `mixed_product_forward` is the same, cheaper.
    """
    with plain_arithmetic():  # the other has no second derivatives
        gradients = torch.autograd.grad(loss(), weights, create_graph=True, allow_unused=True)
    terms = [(g * v).sum() for g, v in zip(gradients, vector, strict=True) if g is not None and g.requires_grad]
    return _gradients(torch.stack(terms).sum(), alphas) if terms else [torch.zeros_like(alpha) for alpha in alphas]


def mixed_product_forward(
    loss: LossFunction, weights: Sequence[Tensor], alphas: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """The same by forward over reverse: the derivative of ``grad_alpha L`` along v in the weights.

    Tangents pass through the loss and through its gradient, which is taken by alpha alone; no graph of a graph is kept.

    Raises:
        NotImplementedError: if the loss has an operation without tangents.
    """
    saved = [weight.detach().clone() for weight in weights]
    with forward_ad.dual_level(), frozen(weights), composed_arithmetic():
        with torch.no_grad():
            for weight, origin, v in zip(weights, saved, vector, strict=True):
                weight.copy_(forward_ad.make_dual(origin, v))
        gradients = _gradients(loss(), alphas)
        tangents = [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]
    return [torch.zeros_like(a) if t is None else t.detach() for a, t in zip(alphas, tangents, strict=True)]


def exact_product(
    loss: LossFunction, weights: Sequence[Tensor], alphas: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """`mixed_product_forward`, or, if an operation of the loss has no tangents, `mixed_product`."""
    try:
        return mixed_product_forward(loss, weights, alphas, vector)
    except NotImplementedError:
        return mixed_product(loss, weights, alphas, vector)


def mixed_product_by_difference(
    loss: LossFunction, weights: Sequence[Tensor], alphas: Sequence[Tensor], vector: Sequence[Tensor], epsilon: float
) -> list[Tensor]:
    """The same by DARTS Eq. 8; the weights are restored."""
    norm = torch.stack([v.norm() for v in vector]).norm().item()
    if norm == 0.0:
        return [torch.zeros_like(alpha) for alpha in alphas]
    radius = epsilon / norm
    saved = [weight.detach().clone() for weight in weights]
    sides = []
    try:
        for sign in (radius, -radius):
            with torch.no_grad():
                for weight, origin, v in zip(weights, saved, vector, strict=True):
                    weight.copy_(origin + sign * v)
            sides.append(_gradients(loss(), alphas))
    finally:
        _restore(weights, saved)
    return [(p - m) / (2 * radius) for p, m in zip(*sides, strict=True)]


def _restore(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, origin in zip(weights, saved, strict=True):
            weight.copy_(origin)


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Gradients by these tensors only (autograd skips all others), zeros for the ones that the loss does not use.
    Means over the processes that share the batch: ``autograd.grad`` passes by what averages after a ``backward``."""
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    gradients = [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
    average(gradients)
    return gradients


class BilevelModule(DartsLightningModule):
    """The search as a LightningModule around the task's own one; what a differentiable strategy runs.

    Args:
        training_module: the task's module. If it has ``step(batch) -> {"loss": ..., "accuracy": ...}``, that is used;
            otherwise its ``training_step``, whose logging is silenced on the validation half.
        order: ``first`` or ``second``.
        arc_learning_rate: learning rate of Adam on the architecture parameters.
        arc_weight_decay: its weight decay.
        warmup_epochs: epochs at the start in which only the weights learn.
        gradient_clip_val: largest norm of the weights' gradient.
        hessian: ``exact`` or ``difference``, see `unrolled_gradient`; for the second order only.
        hessian_epsilon: ``epsilon`` of the difference.
        guard: judges every epoch after the warm-up.
        budget: limits of the result's costs; the architecture feels their penalty, and the result keeps them.
        costs: costs whose expectation is recorded every epoch; those of the budget by default.

    Attributes:
        history: one record an epoch: choices, probabilities, statistics, the guard's words. Saved in checkpoints.
    """

    def __init__(
        self,
        training_module: Any,
        *,
        order: Literal["first", "second"] = "first",
        arc_learning_rate: float = 6e-3,
        arc_weight_decay: float = 1e-3,
        warmup_epochs: int = 0,
        gradient_clip_val: float | None = 5.0,
        hessian: Literal["exact", "difference"] = "exact",
        hessian_epsilon: float = 0.01,
        guard: CollapseGuard | None = None,
        budget: Budget | None = None,
        costs: CostTable | None = None,
    ) -> None:
        super().__init__(
            training_module,
            arc_learning_rate=arc_learning_rate,
            warmup_epochs=warmup_epochs,
            gradient_clip_val=gradient_clip_val,
        )
        if order not in ("first", "second"):
            raise ConfigError(f"order is {order!r}; expected first or second.")
        if hessian not in ("exact", "difference"):
            raise ConfigError(f"hessian is {hessian!r}; expected exact or difference.")
        self.order, self.hessian, self.hessian_epsilon = order, hessian, hessian_epsilon
        self.arc_weight_decay = arc_weight_decay
        self.guard, self.budget = guard or CollapseGuard(), budget
        self.costs = budget.table if budget else costs
        self.history: list[dict[str, Any]] = []
        self._sums: dict[str, list[float]] = {}

    # ---- architecture parameters, by name and in a fixed order (NNI's own order differs from process to process)

    def named_arch_parameters(self) -> dict[str, nn.Parameter]:
        """The architecture parameters of all supernet modules by name."""
        named: dict[str, nn.Parameter] = {}
        seen: set[int] = set()
        for module in self.supernet_modules():
            if hasattr(module, "named_arch_parameters"):
                named.update(module.named_arch_parameters())
                seen.update(map(id, module.arch_parameters()))
        for module in self.supernet_modules():  # modules of NNI itself, for spaces of layer choices
            for parameter in getattr(module, "arch_parameters", list)():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    named[f"{type(module).__name__}/{getattr(module, 'label', len(named))}"] = parameter
        return named

    def arch_parameters(self) -> list[nn.Parameter]:
        return list(self.named_arch_parameters().values())

    @cached_property
    def architecture(self) -> list[nn.Parameter]:
        """`arch_parameters` of the supernet as it is in the step, where looking for them anew would take its time."""
        return self.arch_parameters()

    @cached_property
    def weights(self) -> list[nn.Parameter]:
        """`weight_parameters`, likewise."""
        return self.weight_parameters()

    def weight_parameters(self) -> list[nn.Parameter]:
        """All trainable parameters that are not the architecture's."""
        architecture = set(map(id, self.arch_parameters()))
        return [p for p in self.parameters() if id(p) not in architecture and p.requires_grad]

    def configure_architecture_optimizers(self) -> torch.optim.Optimizer:
        named = self.named_arch_parameters()
        if not named:
            raise ConfigError("The space has nothing that a differentiable search can choose.")
        # the names travel with the optimizer's state into checkpoints
        options = {"lr": self.arc_learning_rate, "betas": (0.5, 0.999), "weight_decay": self.arc_weight_decay}
        return torch.optim.Adam([(name, parameter) for name, parameter in named.items()], **options)

    # ---- the step

    def on_fit_start(self) -> None:
        epochs = self.trainer.max_epochs
        if epochs is not None and 0 <= epochs <= self.warmup_epochs:
            raise ConfigError(
                f"warmup_epochs is {self.warmup_epochs}, but the search has {epochs} epochs: nothing would be searched."
            )
        check_strategy(self.trainer)
        super().on_fit_start()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        train, val = batch["train"], batch["val"]
        if self.searching:
            self._architecture_step(train, val)
        self._weight_step(train, batch_idx)
        self.advance_lr_schedulers(batch_idx)

    @property
    def searching(self) -> bool:
        """Whether the architecture learns in this epoch."""
        return self.trainer.current_epoch >= self.warmup_epochs

    def _architecture_step(self, train: Any, val: Any) -> None:
        optimizer = self.architecture_optimizers()
        alphas = self.architecture
        if self.order == "first":
            with frozen(self.weights):
                gradients = _gradients(self._loss(val, "val"), alphas)
        else:
            gradients = self._second_order(train, val, alphas)
        if self.budget:
            felt = _gradients(self.budget.penalty(self.costed_modules()), alphas)
            gradients = [gradient + more for gradient, more in zip(gradients, felt, strict=True)]
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.grad = gradient
        optimizer.step()
        optimizer.zero_grad()

    def _second_order(self, train: Any, val: Any, alphas: list[nn.Parameter]) -> list[Tensor]:
        optimizer = next(o for o in self.trainer.optimizers if not getattr(o, "is_arch_optimizer", False))
        if not isinstance(optimizer, torch.optim.SGD):
            name = type(optimizer).__name__
            raise ConfigError(
                f"order=second unrolls a step of SGD, but the weights are trained by {name}. Use order=first."
            )
        group = optimizer.param_groups[0]
        weights = self.weight_parameters()  # anew: a task may have frozen some since
        # the virtual steps must not leave traces in the statistics of the batch norms
        norms = [(buffer, buffer.clone()) for buffer in self.buffers()]
        gradients = unrolled_gradient(
            lambda: self._loss(train),
            lambda: self._loss(val, "val"),
            weights,
            alphas,
            learning_rate=group["lr"],
            momentum=group["momentum"],
            buffers=[optimizer.state.get(w, {}).get("momentum_buffer") for w in weights],
            weight_decay=group["weight_decay"],
            hessian=self.hessian,
            epsilon=self.hessian_epsilon,
            forward=self._all_fused(),
        )
        for buffer, before in norms:
            buffer.copy_(before)
        return gradients

    def _all_fused(self) -> bool:
        """Whether all that is chosen is computed by `fused`, whose operations know tangents."""
        ours = [module for module in self.supernet_modules() if hasattr(module, "arch_parameters")]
        return all(hasattr(module, "fused") and is_fused(module, self.architecture[0]) for module in ours)

    def _weight_step(self, train: Any, batch_idx: int) -> None:
        with frozen(self.architecture):
            self.advance_optimization(self._loss(train, "train"), batch_idx, self.gradient_clip_val)

    def _loss(self, batch: Any, phase: str | None = None) -> Tensor:
        """The task's loss on a batch; its statistics are added to the epoch's under the name of the phase."""
        # the weight step alone may log: Lightning would mix the batches of both halves into one metric
        with contextlib.nullcontext() if phase == "train" else quiet(self.training_module):
            step = getattr(self.training_module, "step", None)
            result = step(batch) if step else self.training_module.training_step(batch, 0)
        values = result if isinstance(result, dict) else {"loss": result}
        numbers = mean_values(values)
        if not math.isfinite(numbers["loss"]):
            epoch, number = self.trainer.current_epoch, self.trainer.fit_loop.batch_idx
            raise DivergenceError(
                f"The {phase or 'train'} loss is {numbers['loss']} in epoch {epoch}, batch {number}. "
                "Lower the learning rate, or resume from the last checkpoint with another seed."
            )
        if phase:
            for name, value in numbers.items():
                self._sums.setdefault(f"{phase}_{name}", []).append(value)
        return values["loss"]

    # ---- the end of an epoch

    def on_train_epoch_start(self) -> None:
        # NNI toggles requires_grad here for its warm-up; our step freezes what is idle by itself
        self._sums = {}
        self.training_module.on_train_epoch_start()

    def on_train_epoch_end(self) -> None:
        self.training_module.on_train_epoch_end()
        choices = self.derived()
        probabilities = self.export_probs()
        operation_weights = {k: v for k, v in probabilities.items() if "/beta_" not in k}
        stop, reason = self.guard.judge(choices, operation_weights) if self.searching else (False, None)
        record = {
            "epoch": self.trainer.current_epoch,
            "choices": choices,
            "probabilities": {edge: list(row.values()) for edge, row in probabilities.items()},
            "operations": list(next(iter(operation_weights.values()), {})),
            "names": {label: list(row) for label, row in probabilities.items()},
            "statistics": {name: sum(values) / len(values) for name, values in self._sums.items()},
            "entropy": normalised_entropy(operation_weights),
            "skip_share": skip_share(choices),
            "none_share": none_share(operation_weights),
            "guard": reason,
            "healthy": not stop,
        }
        if self.costs:
            expected = self.costs.expected(self.costed_modules()).tolist()
            record["expected"] = dict(zip(self.costs.names, expected, strict=True))
        self.history.append(record)
        if stop:
            self.trainer.should_stop = True

    def costed_modules(self) -> list[Any]:
        """The cells and blocks of the supernet, one of each name: cells of one name share their parameters."""
        ours = (module for module in self.supernet_modules() if isinstance(module, StandIn))
        return list({getattr(module, "name", None) or module.label: module for module in ours}.values())

    def derived(self) -> dict[str, Any]:
        """The choices that the architecture parameters prefer, within the budget if there is one."""
        return self.budget.derive(self.costed_modules()) if self.budget else super().export()

    def export(self) -> dict[str, Any]:
        """The choices of the last healthy epoch, which is the last one unless the guard stopped the search."""
        return self.result()["choices"]

    def result(self) -> dict[str, Any]:
        """The record of the epoch whose choices are the result.

        If the guard stopped in the first searched epoch, that is the epoch before: the end of the warm-up, or, with
        nothing before it, the stopped epoch itself.
        """
        if not self.history:
            return {"epoch": -1, "choices": self.derived(), "healthy": True, "guard": None}
        healthy = [record for record in self.history if record["healthy"]]
        return (healthy or self.history)[-1]

    def load_history(self, checkpoint: Path) -> None:
        """The records of a search that has ended, without its weights."""
        self.history = torch.load(checkpoint, map_location="cpu", weights_only=True)["search_history"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["search_history"] = self.history
        checkpoint["arch_parameters"] = {k: p.detach().clone() for k, p in self.named_arch_parameters().items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the architecture parameters by name, and refuse the checkpoint of another search."""
        saved, own = checkpoint.get("arch_parameters", {}), self.named_arch_parameters()
        shapes = {name: tuple(p.shape) for name, p in own.items()}
        if {name: tuple(p.shape) for name, p in saved.items()} != shapes:
            raise ConfigError(f"The checkpoint has architecture parameters {sorted(saved)}, this search {sorted(own)}.")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(saved[name])
        self.history = list(checkpoint["search_history"])


@contextlib.contextmanager
def frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """No gradients for these parameters inside the block: autograd leaves out all that only they need."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def quiet(module: Any) -> Iterator[None]:
    """``module.log`` does nothing inside the block."""
    kept = {name: module.__dict__.get(name) for name in ("log", "log_dict")}
    for name in kept:
        module.__dict__[name] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = value

"""DARTS (Liu et al., ICLR 2019) as an NNI strategy: all operations of all edges, weighted, trained together."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("darts"))

from typing import Any, Literal

import nni.nas.strategy
from torch import nn

from searchspaces.errors import ConfigError

from .autofem import MixedPyramid, MixedTree
from .bilevel import BilevelModule
from .branches import MixedBlock
from .collapse import CollapseGuard
from .cost import Budget, CostTable
from .elastic import MixedElastic
from .stand_in import StandIn
from .supernet import MixedCell


class DARTS(nni.nas.strategy.DARTS):
    """Differentiable search, first or second order.

    Use it as any strategy of NNI, ``NasExperiment(build_space("autofas"), evaluator, DARTS())``, with a Lightning
    evaluator. On spaces of layer choices NNI's own mixed layers are used.

    Args:
        order: ``first`` takes the gradient at the present weights, ``second`` unrolls one step (Auto-FAS Eq. 5).
        arc_learning_rate: learning rate of Adam on the architecture parameters; 6e-3 in the Auto-FAS paper.
        arc_weight_decay: its weight decay; 1e-3 in the Auto-FAS paper.
        warmup_epochs: epochs at the start in which only the weights learn.
        gradient_clip_val: largest norm of the weights' gradient; 5 in DARTS.
        hessian: for the second order, ``exact`` differentiates twice, ``difference`` is the approximation of DARTS.
        hessian_epsilon: radius of that difference; 0.01 in DARTS.
        guard: when to stop or warn because the search collapses.
        budget: limits of the result's costs (see `cost.Budget`).
        costs: costs whose expectation is recorded every epoch; those of the budget by default.
        recompute: keep of every searched module its inputs alone and compute it again in the backward pass: less
            memory, more time, the same results (see `recompute`). First order only.
    """

    mixed_options: dict[str, Any] = {}  # noqa: RUF012  what MixedCell is built with; subclasses set their own

    def __init__(
        self,
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
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if recompute and order != "first":
            raise ConfigError(
                "--recompute is for the first order: the second differentiates gradients again. Leave one of them out."
            )
        self.recompute = recompute
        self.module_options: dict[str, Any] = {
            "order": order,
            "arc_learning_rate": arc_learning_rate,
            "arc_weight_decay": arc_weight_decay,
            "warmup_epochs": warmup_epochs,
            "gradient_clip_val": gradient_clip_val,
            "hessian": hessian,
            "hessian_epsilon": hessian_epsilon,
            "guard": guard,
            "budget": budget,
            "costs": costs,
        }

    def mutate_model(self, model: Any) -> Any:
        """The supernet of a space, which is changed in place."""
        supernet = super().mutate_model(model)
        for module in supernet.modules():
            if isinstance(module, StandIn):
                module.recompute = self.recompute
        return supernet

    def default_mutation_hooks(self) -> list[Any]:
        """Our modules first; NNI's hooks stay for layer choices and input choices."""

        def mixed(module: nn.Module, name: str, memo: dict[str, Any], kwargs: dict[str, Any]) -> Any:
            for supermodule in (MixedCell, MixedPyramid, MixedTree, MixedElastic):
                found = supermodule.mutate(module, name, memo, self.mixed_options)
                if found is not None:
                    return found
            return None

        return [mixed, MixedBlock.mutate, *super().default_mutation_hooks()]

    def configure_oneshot_module(self, training_module: Any) -> BilevelModule:
        return BilevelModule(training_module, **self.module_options)

"""One search of `benchmarks.search_step`, in a process of its own: a step whenever a line comes in.

Writes a line of JSON when it is ready, then one for every step: CPU seconds and wall seconds. After the line ``end`` it
writes its peak memory and is gone. With the option ``compare`` it writes the results by which searches are compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NNI = ("nni_darts", "nni_gumbel")


def main(options: str) -> None:
    """Run a search.

    Args:
        options: a JSON object, see `benchmarks.search_step.worker_options`.
    """
    from searchspaces.console import quiet_libraries

    with quiet_libraries():
        search(json.loads(options))


def search(settings: dict[str, Any]) -> None:
    """The same with settings that have been read."""
    if settings["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {settings["core"]})
    import torch

    torch.set_num_threads(settings["threads"])
    import pytorch_lightning
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.space import RawFormatModelSpace

    import strategies.pc_darts
    import strategies.single_path  # noqa: F401  all is loaded before memory is looked at

    idle = reset_peak()
    strategy, network = build(settings)
    trained = evaluator(settings)
    strategy.initialize(RawFormatModelSpace.from_model(network, trained), SequentialExecutionEngine())
    fill(strategy.supernet, settings)
    if settings["compare"]:
        answer(compared(strategy.supernet, settings))
        return
    answer({"idle_mib": idle})

    class Steps(pytorch_lightning.Callback):
        """Waits for a line before every step."""

        def on_train_batch_start(self, *_: Any) -> None:
            if sys.stdin.readline().strip() != "step":
                answer({"peak_mib": peak(settings) - idle})
                os._exit(0)
            self.started = time.process_time(), time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            cpu, wall = self.started
            answer({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall})

    trained.trainer.callbacks.insert(0, Steps())
    with arithmetic(settings):
        strategy.run()


def answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


# ---- what is searched


def build(settings: dict[str, Any]) -> tuple[Any, Any]:
    """The strategy and the space."""
    import nni.nas.strategy

    from searchspaces import build_space
    from strategies import DARTS, PCDARTS, CollapseGuard, GumbelSinglePath

    name, off = settings["search"], {"guard": CollapseGuard("off"), "recompute": settings.get("recompute", False)}
    if name in NNI:
        kind = nni.nas.strategy.DARTS if name == "nni_darts" else nni.nas.strategy.GumbelDARTS
        return kind(gradient_clip_val=5.0), nni_space(**settings["space_options"])
    space = build_space(settings["space"], **settings["space_options"])
    kind = name.removeprefix("plain_")
    if kind == "pc_darts":
        strategy: Any = PCDARTS(warmup_epochs=0, **off)
    elif kind == "single_path":
        strategy = GumbelSinglePath(sampled=settings["sampled"], **off)
    else:
        strategy = DARTS(order="second" if "second" in kind else "first", hessian=settings["hessian"], **off)
    if name in ("plain_darts", "plain_pc_darts"):  # the straightforward step, too: all gradients in both of its halves
        strategy.configure_oneshot_module = lambda module: nni_step(strategy, module)
    return strategy, space


def nni_step(strategy: Any, module: Any) -> Any:
    """NNI's own search step around our supernet."""
    from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule

    return DartsLightningModule(module, arc_learning_rate=6e-3, gradient_clip_val=5.0)


def nni_space(channels: int, layout: str, stem_multiplier: int = 3, image_size: int = 64, nodes: int = 4) -> Any:
    """Auto-FAS declared with NNI's own ``Cell``, of which NNI's strategies make a supernet.

    NNI gives every edge one weight more than it has operations, for none of them: that is our candidate ``none``.
    """
    import nni.nas.nn.pytorch as nas
    import torch
    from torch import nn

    from searchspaces.autofas import CELL_NAMES, OPERATION_NAMES
    from searchspaces.cells import CellShape
    from strategies.supernet import MixedEdge

    class Inputs(nn.Module):
        def __init__(self, frame: CellShape) -> None:
            super().__init__()
            self.before, self.previous = frame.preprocess_before, frame.preprocess_previous

        def forward(self, states: list[Any]) -> list[Any]:
            return [self.before(states[0]), self.previous(states[1])]

    def operation(name: str, reduction: bool) -> Any:
        def make(node: int, slot: int, source: int | None) -> nn.Module:
            stride = 2 if reduction and (source or 0) < 2 else 1
            return MixedEdge.build(name, channels, stride)

        return make

    class Space(nas.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            width = stem_multiplier * channels
            self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            self.cells = nn.ModuleList()
            before = previous = width
            for index, letter in enumerate(layout):
                after = index > 0 and layout[index - 1] == "R"
                shape = {"reduction": letter == "R", "after_reduction": after, "nodes": nodes, "affine": False}
                frame = CellShape("", before, previous, channels, **shape)
                made = {name: operation(name, letter == "R") for name in OPERATION_NAMES if name != "none"}
                self.cells.append(nas.Cell(made, nodes, 1, 2, preprocessor=Inputs(frame), label=CELL_NAMES[letter]))
                before, previous = previous, nodes * channels
            self.head = nn.Conv2d(previous, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            before = previous = self.stem(x)
            for cell in self.cells:
                before, previous = previous, cell([before, previous])
            return self.head(previous)

    return Space()


def evaluator(settings: dict[str, Any]) -> Any:
    """SGD on random pictures, as NNI's evaluator."""
    import torch
    from nni.nas.evaluator.pytorch import DataLoader, Lightning, LightningModule, Trainer

    from evaluators.task import TRAINER_OPTIONS

    class Module(LightningModule):
        def forward(self, x: Any) -> Any:
            return self.model(x)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return loss_of(self(batch))

        def on_fit_start(self) -> None:
            self.to(memory_format=layout_of(settings))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    size, batch = settings["input"], settings["batch"]
    torch.manual_seed(0)
    halves = [torch.randn(4 * batch, 3, size, size) for _ in range(2)]
    trainer = Trainer(
        max_epochs=10_000,
        accelerator=settings["device"],
        precision=settings["precision"],
        logger=False,
        enable_checkpointing=False,
        **{**TRAINER_OPTIONS, "log_every_n_steps": 10_000},
    )
    loaders = [DataLoader(half, batch_size=batch, shuffle=False) for half in halves]
    return Lightning(Module(), trainer, train_dataloaders=loaders[0], val_dataloaders=loaders[1])


def layout_of(settings: dict[str, Any]) -> Any:
    """The straightforward form and NNI's keep torch's default layout."""
    import torch

    plain = settings["search"] in NNI or settings["search"].startswith("plain")
    return torch.contiguous_format if plain else torch.channels_last


def arithmetic(settings: dict[str, Any]) -> Any:
    """The straightforward form runs its layers one by one."""
    from strategies.fused import plain_arithmetic

    return plain_arithmetic() if settings["search"].startswith("plain") else contextlib.nullcontext()


def loss_of(outputs: Any) -> Any:
    """A scalar of the network's outputs, a map or several, that is in no space's favour."""
    maps = [outputs] if hasattr(outputs, "shape") else list(_flat(outputs))
    return sum(each.float().sub(1).square().mean() for each in maps)


def _flat(value: Any) -> Iterator[Any]:
    if hasattr(value, "shape"):
        yield value
    else:
        for each in value.values() if hasattr(value, "values") else value:
            yield from _flat(each)


# ---- the same weights in all of them


def canonical_names(supernet: Any) -> dict[str, Any]:
    """The supernet's tensors by names that do not depend on who built it: parameters, and rows of alpha."""
    from strategies.supernet import MixedCell, mixed_of

    names: dict[str, Any] = {}
    for name, parameter in supernet.named_parameters():
        parts = name.split(".")
        if "_arch_alpha" in name:  # NNI: cells.0._arch_alpha.normal/2_0, target before source
            label, _, ends = parts[-1].rpartition("/")
            target, source = ends.split("_")
            names[f"alpha/{label}/{source}_{target}"] = parameter
        elif "ops" in parts:  # NNI: cells.0.ops.TARGET.SOURCE.NAME.rest
            place = parts.index("ops")
            target, source, operation = parts[place + 1 : place + 4]
            edge = f"{source}_{int(target) + 2}"
            names[".".join([*parts[:place], edge, operation, *parts[place + 4 :]])] = parameter
        elif "preprocessor" in parts or "frame" in parts:
            names[name.replace("preprocessor.", "preprocess_").replace("frame.", "")] = parameter
        elif "mixed_edges" not in parts and parts[-1] not in ("alpha", "beta"):
            names[name] = parameter
    for path, cell in supernet.named_modules():
        if not isinstance(cell, MixedCell):
            continue
        for index, (source, target) in enumerate(cell.pairs):
            edge = cell.mixed_edges[index]
            mixed = mixed_of(edge)
            for number, operation in zip(mixed.computed, mixed.operations, strict=True):
                for rest, parameter in operation.named_parameters():
                    names[f"{path}.{source}_{target}.{cell.candidates[number]}.{rest}"] = parameter
            # NNI's order: the operations, then none of them
            order = [*mixed.computed, *(i for i in range(len(cell.candidates)) if i not in mixed.computed)]
            names[f"alpha/{cell.name}/{source}_{target}"] = (cell.alpha, index, order)
    return names


def fill(supernet: Any, settings: dict[str, Any]) -> None:
    """Weights that depend on their canonical names alone."""
    import torch

    if settings["space"] != "autofas":
        return
    with torch.no_grad():
        for name, place in canonical_names(supernet).items():
            shape = place.shape if hasattr(place, "shape") else (len(place[2]),)
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
            if name.startswith("alpha"):
                values *= 0.5
            elif values.ndim == 1:  # a norm's scale or shift, or a bias
                values = 1 + 0.1 * values
            else:
                values /= values[0].numel() ** 0.5
            if hasattr(place, "shape"):
                place.copy_(values)
            else:
                alpha, row, order = place
                alpha[row, order] = values.to(alpha)


def compared(supernet: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Outputs and architecture gradients on one batch, those of the first order, by the search's arithmetic.

    In double precision: in single precision two orders of the same sums can put a number on either side of a ReLU's
    kink.
    The single path has nobody to be compared with but itself by the plain layers, with the same noise.
    """
    import torch

    from strategies.fused import plain_arithmetic

    size = settings["input"]
    x = torch.randn(settings["batch"], 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    supernet.double().to(memory_format=layout_of(settings))
    places = [place for name, place in sorted(canonical_names(supernet).items()) if name.startswith("alpha")]

    def run() -> dict[str, list[float]]:
        torch.manual_seed(2)
        outputs = supernet(x)
        tensors = [place if hasattr(place, "shape") else place[0] for place in places]
        gradients = torch.autograd.grad(loss_of(outputs), tensors)
        rows = [
            g if hasattr(place, "shape") else g[place[1], place[2]] for g, place in zip(gradients, places, strict=True)
        ]
        return {"outputs": outputs.flatten().tolist(), "gradients": torch.cat(rows).tolist()}

    with arithmetic(settings):
        found: dict[str, Any] = run()
    if settings["search"] == "single_path":
        with plain_arithmetic():
            found["plain"] = run()
    return found


# ---- memory


def reset_peak() -> float:
    """MiB that the process holds now; its peak is counted from here."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(settings: dict[str, Any]) -> float:
    """MiB at the highest, of the device on a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if settings["device"] == "gpu" else _status("VmHWM")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main(sys.argv[1])

"""Short searches and trainings on one process or several: ``python -m tests.strategies.shared_runs DEVICES DATA OUT``.

A user's script: with several devices, Lightning starts it once more for each. Every process writes what it ends with.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace

from evaluators.detection_losses import shot_loss
from evaluators.distillation_losses import head_aware_loss
from evaluators.sharing import SharedBatches, mean_values, own_rows, shared_step, whole
from evaluators.task import WeightSchedule
from evaluators.tasks import build_task
from evaluators.train import TrainingLog, fit
from searchspaces import Architecture, build_space
from searchspaces.pta import Pta
from strategies import DARTS, CollapseGuard, GumbelSinglePath, SinglePath
from strategies.record import SearchLog

from ..searchspaces.genotypes import TABLE_4, choices

OFF = CollapseGuard("off")
AUTOFAS = {"channels": 4, "layout": "RN", "image_size": 20}
FEW_NODES = {**AUTOFAS, "nodes": 2}
NARROW = {"width": 0.1, "image_size": 32}
SCHEDULE = WeightSchedule(epochs=2, batch_size=4, learning_rate=0.05)
SHORT = WeightSchedule(epochs=1, batch_size=4, learning_rate=0.05)
ADAM = WeightSchedule(epochs=2, batch_size=4, learning_rate=0.01, optimizer="adam", warmup_steps=3)
SLOW = WeightSchedule(epochs=1, batch_size=4, learning_rate=1e-4)  # a narrow PTA amplifies the rounding of its steps
# what is taken away, to see that it matters
BROKEN = {
    "architecture": lambda: patch("strategies.bilevel.average", lambda tensors: None),
    "gradients": lambda: patch.object(SharedBatches, "post_backward", lambda self, loss: None),
    "statistics": lambda: patch("evaluators.sharing.WholeBatch", nullcontext),
    "dropout": lambda: patch("evaluators.sharing.whole_dropout", torch.nn.functional.dropout),
}
SEARCHES = {
    "first": ("autofas", FEW_NODES, SCHEDULE, lambda: DARTS(guard=OFF)),
    "second": ("autofas", FEW_NODES, SHORT, lambda: DARTS(order="second", guard=OFF)),
    "warm-up": ("autofas", FEW_NODES, SCHEDULE, lambda: DARTS(warmup_epochs=1, guard=OFF)),
    "gumbel": ("autofas", FEW_NODES, SCHEDULE, lambda: GumbelSinglePath(sampled="both", guard=OFF)),
    "paths": ("autofas", FEW_NODES, SCHEDULE, lambda: SinglePath(seed=1)),
    "dropout": ("pta", NARROW, SLOW, lambda: SinglePath(seed=1)),
}


@contextmanager
def all_of(broken):
    with ExitStack() as stack:
        for part in broken:
            stack.enter_context(BROKEN[part]())
        yield


def search(name, data, options, folder=None):
    """What a search ends with: weights, architecture parameters, figures, its result."""
    space, space_options, schedule, strategy_of = SEARCHES[name]
    supernet = build_space(space, **space_options)
    task = make_task(data, supernet)
    if folder:
        log = SearchLog(folder, 0, lambda chosen: 1)
        options = {**options, "callbacks": [log], "enable_checkpointing": True}
    strategy = strategy_of()
    evaluator = task.search_evaluator(schedule, 0, **options)
    strategy.initialize(RawFormatModelSpace.from_model(supernet, evaluator), SequentialExecutionEngine())
    strategy.run()
    module = strategy.oneshot_module
    return {
        "state": module.state_dict(),
        "statistics": [record["statistics"] for record in module.history],
        "choices": json.dumps(module.export(), sort_keys=True),
    }


def train(data, options, folder, schedule=SCHEDULE):
    """The same of the training of a fixed network."""
    architecture = Architecture("autofas", AUTOFAS, choices(TABLE_4))
    task = make_task(data, architecture)
    log = TrainingLog(folder, 0, task, None)
    if "precision" in options:  # the validation inside of the training reads float32
        task.validation = lambda network, split: {"loss": 0.0}
    network = fit(architecture.build(seed=0), task, schedule, task.data.splits["train"], 0, callbacks=[log], **options)
    return {"state": network.state_dict(), "statistics": [], "choices": ""}


def losses(rank, devices):
    """Losses that are no means over pictures, and their gradients by a batch of which each process has its rows."""
    random = torch.Generator().manual_seed(0)
    logits, offsets, student, teacher = (
        torch.randn(shape, generator=random, dtype=torch.float64) for shape in ((4, 6, 2), (4, 6, 4), (4, 5), (4, 7))
    )
    corners = 10.0 * torch.arange(6)[:, None]
    anchors = torch.cat([corners, corners, corners + 10, corners + 10], dim=1)
    faces = [anchors[:number] + 1 for number in (0, 1, 4, 2)]  # no positive anchor, and several
    ignored = [torch.zeros(len(own), dtype=torch.bool) for own in faces]
    rows = own_rows(4, rank, devices)

    def detection(logits, offsets):
        options = {"margin": 0.35, "regression_weight": 1.0}
        return shot_loss(logits, offsets, anchors, faces[rows], ignored[rows], **options)["loss"]

    def imitation(student, teacher):
        return head_aware_loss(whole(student), whole(teacher), "gram_mean")

    found = {}
    for name, loss, inputs in (
        ("detection", detection, (logits, offsets)),
        ("imitation", imitation, (student, teacher)),
    ):
        own = [values[rows].clone().requires_grad_() for values in inputs]
        with shared_step(rank, devices):
            value = loss(*own)
            found[name] = torch.tensor(mean_values({"loss": value})["loss"])
            found[f"{name} gradient"] = whole(torch.autograd.grad(value, own[0])[0]) / devices
    return {"state": found, "statistics": [], "choices": ""}


def make_task(data, network):
    supervision = "cross_entropy" if isinstance(network, Pta) else "pixel"
    return build_task(network, {"data": "folder", "data_root": data, "supervision": supervision}, progress=False)


def main(devices, data, out, *broken):
    rank = int(os.environ.get("LOCAL_RANK", 0))
    options = {"accelerator": "cpu", "precision": "64-true"}
    if devices > 1:
        options.update(strategy="ddp", devices=devices)
    found = {}

    def run(name, function, *arguments, without=()):
        torch.manual_seed(rank)  # other weights and another generator in each process, unless they are made equal
        import time

        t = time.time()
        with all_of(without):
            found[name] = function(*arguments)
        print("CASE", rank, name, round(time.time() - t, 2), flush=True)

    for name in SEARCHES:
        run(name, search, name, data, options, out / "first" if name == "first" else None)
    run("trained", train, data, options, out / "trained")
    run("adam", train, data, options, out / "adam", ADAM)
    run("losses", losses, rank, devices)
    for part in BROKEN if devices > 1 else ():
        run(f"without {part}", search, "dropout" if part == "dropout" else "first", data, options, without=(part,))
    torch.save(found, out / f"{devices}-{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

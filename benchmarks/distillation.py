"""Does a teacher help a small student? The same student with and without one, over seeds, on ``portraits``.

    python -m benchmarks.distillation

The student is a vision transformer of the space ``hatfas``; the teacher, unless one is given, a MobileNetV2 of the
space ``pta`` that is trained first. Each seed trains the student twice with equal data, batches and initial weights, so
that the difference is the teacher's. The table shows every seed and the mean difference with a 95 % interval (Student's
t over seeds), whatever it is. The attacks are simulated.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.supervision import paired

SIZE = 96
STUDENT = {"embed": 64, "depth": 2, "mlp_ratio": 2}
METRICS = ("acer", "eer", "auc")


def main(
    seeds: int = 5,
    people: int = 200,
    epochs: int = 40,
    teacher: str | None = None,
    teacher_epochs: int = 20,
    distillation: dict[str, Any] | None = None,
    out: str | None = None,
) -> None:
    """Compare students with and without a teacher.

    Args:
        seeds: how many pairs are trained.
        people: how many people of portraits are used.
        epochs: of each student.
        teacher: see evaluators.teachers; by default one is trained.
        teacher_epochs: of that training.
        distillation: options of the teaching; see evaluators.distillation.
        out: a JSON file for the result.
    """
    from rich.console import Console

    from evaluators.recipes import find_recipe
    from evaluators.task import WeightSchedule
    from evaluators.tasks import build_task
    from evaluators.train import fit, teacher_record
    from searchspaces import Architecture, build_space
    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError
    from searchspaces.files import write_json

    if seeds < 2:
        raise ConfigError("seeds must be at least 2: one pair has no spread.")
    recipe = find_recipe("hatfas", "quick")
    options = {**recipe.search_space, "image_size": SIZE}
    student = Architecture("hatfas", options, STUDENT)
    space = build_space("hatfas", **options)
    shared = {"data": "portraits", "people": people, "supervision": "cross_entropy", "augmentation": "crop"}
    schedule = WeightSchedule(
        epochs,
        recipe.train_batch,
        recipe.train_learning_rate,
        weight_decay=recipe.weight_decay,
        optimizer=recipe.optimizer,
        decay=recipe.decay,
        warmup_steps=recipe.warmup_steps,
        gradient_clip=recipe.gradient_clip,
    )
    console = Console(highlight=False)
    rows: list[dict[str, Any]] = []
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        if teacher is None:
            teacher = train_teacher(Path(folder), shared, teacher_epochs)
        tasks = {
            "alone": build_task(space, shared, student=student),
            "taught": build_task(
                space, {**shared, "teacher": teacher, "distillation": distillation or {}}, student=student
            ),
        }
        record = teacher_record(tasks["taught"])
        shown = ", ".join(f"{name} {record['metrics'][name]['value']:.3f}" for name in METRICS)
        console.print(f"teacher: {record['name']}, {record['parameters']:,} parameters, {shown}")
        for seed in range(seeds):
            row: dict[str, Any] = {"seed": seed}
            for name, task in tasks.items():
                network = fit(student.build(seed=seed), task, schedule, task.data.splits["train"], seed)
                row[name] = {key: task.metrics(network)[key]["value"] for key in METRICS}
            rows.append(row)
            sides = (f"{name} " + " ".join(f"{key} {row[name][key]:.3f}" for key in METRICS) for name in tasks)
            console.print(f"seed {seed}: " + "   ".join(sides))
    result: dict[str, Any] = {"student": STUDENT, "teacher": record, "options": shared, "rows": rows}
    for name in METRICS:
        result[f"{name}_difference"] = difference = paired([row["taught"][name] - row["alone"][name] for row in rows])
        mean, low, high = (difference[key] for key in ("mean", "low", "high"))
        verdict = "no difference shown" if low <= 0 <= high else "a difference"
        console.print(f"{name} taught - alone: {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}: {verdict}")
    if out:
        write_json(Path(out), result)


def train_teacher(folder: Path, shared: dict[str, Any], epochs: int) -> str:
    """A run folder with a trained MobileNetV2 of half the width."""
    from evaluators.recipes import find_recipe
    from evaluators.task import WeightSchedule
    from evaluators.tasks import build_task
    from evaluators.train import fit, save_weights
    from searchspaces import Architecture
    from searchspaces.pta import choices_of

    recipe = find_recipe("pta", "quick")
    architecture = Architecture("pta", {"width": 0.5, "image_size": SIZE}, choices_of("HHH"))
    architecture.save(folder / "architecture.json")
    task = build_task(architecture.model_space(), shared)
    schedule = WeightSchedule(
        epochs, recipe.train_batch, recipe.train_learning_rate, optimizer="adam", decay="cosine", gradient_clip=5.0
    )
    save_weights(
        fit(architecture.build(seed=0), task, schedule, task.data.splits["train"], 0), folder / "weights.safetensors"
    )
    return str(folder)


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.distillation"))

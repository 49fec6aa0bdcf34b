"""Which loss learns a short embedding from scratch: the convergence study of the AirFace paper (section 4.1), small.

    python -m benchmarks.li_arcface                            # a batch norm ends the embedding, as in MobileFaceNet
    python -m benchmarks.li_arcface --no-normed --noise 1.5    # none does

The paper trains MobileFaceNet with an embedding of 128 on CASIA-WebFace; raw ArcFace diverges after about 1,600 steps,
Li-ArcFace does not. Here a plain network of ten layers learns 1,000 made-up people of ten samples each (a centre and
noise: the data are synthetic, and how noisy they are was chosen so that the losses differ). ArcFace starts from a
larger loss than where everybody is alike, or opposite to all centres, since its target logit ``s cos(theta + m)`` is
flat at 0 and rises again beyond pi - m; it falls into such a place, where nobody can be told from anybody: with a batch
norm at the end into the second, without one into the first. In Li-ArcFace these places have about the loss that a
training starts from.
"""

from __future__ import annotations

import time
from typing import Any

LOSSES = {"li_arcface": 0.4, "arcface": 0.5, "n_softmax": None}  # with the paper's margins
PEOPLE, SAMPLES, WIDTH, LAYERS = 1000, 10, 128, 10
BATCH, NOISE, SCALE = 128, 0.5, 64.0


def main(
    seeds: int = 3,
    steps: int = 1400,
    people: int = PEOPLE,
    layers: int = LAYERS,
    noise: float = NOISE,
    learning_rate: float = 0.1,
    normed: bool = True,
    json: bool = False,
) -> None:
    """Train with each loss from each seed and tell where it ends.

    Args:
        seeds: trainings with each loss.
        steps: of SGD (momentum 0.9, weight decay 5e-4, batch 128).
        people: how many.
        layers: linear layers of the network, 128 wide.
        noise: standard deviation of a sample about its person's centre, whose own is 1.
        learning_rate: constant.
        normed: whether a batch norm follows the last layer.
        json: print an object instead of a table.
    """
    import json as text

    from rich.console import Console
    from rich.table import Table

    from searchspaces.errors import ConfigError

    if seeds < 1 or steps < 1 or people < 2 or layers < 1 or noise < 0 or learning_rate <= 0:
        raise ConfigError(
            "seeds, steps and layers must be at least 1, people at least 2, noise at least 0, learning_rate above 0."
        )
    console = Console(highlight=False, stderr=json)
    table = Table(title=f"{people} synthetic people, {layers} layers, embedding {WIDTH}, {steps} steps")
    for column in (
        "loss",
        "seed",
        "accuracy at 1/7, 3/7 and the end",
        "loss, start to end",
        "mean cosine to its centre",
        "s",
    ):
        table.add_column(column)
    rows = []
    for name in LOSSES:
        for seed in range(seeds):
            row = run(name, seed, steps, people, layers, noise, learning_rate, normed)
            rows.append(row)
            table.add_row(
                name,
                str(seed),
                " ".join(f"{value:.3f}" for value in row["accuracy"]),
                f"{row['first_loss']:.1f} to {row['last_loss']:.2f}",
                f"{row['cosine']:+.2f}",
                f"{row['seconds']:.0f}",
            )
    places = {"arcface": places_of("arcface", people), "li_arcface": places_of("li_arcface", people)}
    if json:
        print(text.dumps({"rows": rows, "places": places}))
        return
    console.print(table)
    for name, place in places.items():
        console.print(
            f"{name}: the loss is {place['alike']:.1f} where all centres and embeddings are equal, "
            f"{place['opposite']:.2f} where all embeddings are opposite to all centres (closed forms)."
        )


def places_of(name: str, people: int) -> dict[str, float]:
    """The loss where nobody can be told from anybody: all centres equal, and all embeddings equal or opposite to
    them."""
    from evaluators.recognition_losses import all_alike, arcface_false_optimum, li_arcface_at_opposite

    opposite = {"arcface": arcface_false_optimum, "li_arcface": li_arcface_at_opposite}[name]
    return {"alike": all_alike(name, people), "opposite": opposite(people)}


def run(
    name: str, seed: int, steps: int, people: int, layers: int, noise: float, learning_rate: float, normed: bool
) -> dict[str, Any]:
    """One training: ``accuracy`` (share of all samples nearest to their own centre) at 1/7, 3/7 and the end of the
    steps, ``first_loss`` and ``last_loss`` (means of 20 steps), mean ``cosine`` of samples to their centres at the end.
    """
    import torch
    from torch import nn

    from evaluators.recognition import ClassCentres
    from evaluators.recognition_losses import RECOGNITION_LOSSES

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        centres = torch.randn(people, WIDTH)
        labels = torch.arange(people).repeat_interleave(SAMPLES)
        samples = centres[labels] + noise * torch.randn(len(labels), WIDTH)
        stack: list[nn.Module] = []
        for _ in range(layers - 1):
            stack += [nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        network = nn.Sequential(*stack, nn.Linear(WIDTH, WIDTH), *([nn.BatchNorm1d(WIDTH)] if normed else []))
        head = ClassCentres(people, WIDTH)
        nn.init.normal_(head.weight, 0, WIDTH**-0.5)
        weights = [*network.parameters(), *head.parameters()]
        optimizer = torch.optim.SGD(weights, learning_rate, momentum=0.9, weight_decay=5e-4)
        own: dict[str, Any] = {"scale": SCALE}
        if LOSSES[name] is not None:
            own["margin"] = LOSSES[name]
        losses, accuracies = [], []
        started = time.monotonic()
        for step in range(steps):
            chosen = torch.randint(0, len(labels), (BATCH,))
            loss = RECOGNITION_LOSSES[name](head(network(samples[chosen])), labels[chosen], **own)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if step + 1 in (steps // 7, 3 * steps // 7, steps):
                with torch.no_grad():
                    cosines = head(network(samples))
                accuracies.append(float((cosines.argmax(1) == labels).float().mean()))
        mean = float(cosines.gather(1, labels[:, None]).mean())
    ends = [sum(part) / len(part) for part in (losses[:20], losses[-20:])]
    return {
        "loss": name,
        "seed": seed,
        "accuracy": accuracies,
        "first_loss": ends[0],
        "last_loss": ends[1],
        "cosine": mean,
        "seconds": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.li_arcface"))

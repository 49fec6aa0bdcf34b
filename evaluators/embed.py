"""Embeddings of pictures by a trained recognition network: ``python -m evaluators.embed RUN PICTURE...``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SHOWN = 10  # pictures whose similarities are printed
FILE = "embeddings.csv"
LARGEST_SIDE = 4096  # pixels


def main(run: str, picture: list[str], out: str = FILE) -> None:
    """Write the embeddings of pictures of faces as CSV, and print how similar they are.

    A row a picture: its file and its embedding, normalised, so that the cosine of two is the sum of their products.
    Each picture is cut square about its centre and scaled as the run's own pictures were; cut it to the face before,
    as they are. A picture that cannot be read is named and left out. Labelled pairs are judged by
    ``python -m evaluators.verify RUN --data pairs --data-root DIR``.

    Args:
        run: a run folder of a recognition network.
        picture: picture files.
        out: the CSV file.
    """
    import pandas as pd

    from searchspaces.console import track
    from searchspaces.errors import DatasetError
    from searchspaces.files import write_text

    embed, threshold = load_run(Path(run))
    rows, unreadable = {}, []
    for path in track(picture, "embedding"):
        try:
            rows[path] = embed(path)
        except DatasetError as error:
            unreadable.append(str(error))
    for text in unreadable:
        print(f"left out: {text}")
    if not rows:
        raise DatasetError("None of the pictures could be read.")
    table = pd.DataFrame(rows.values(), index=pd.Index(rows, name="picture"))
    table.columns = [f"e{number}" for number in table.columns]
    write_text(out, table.to_csv(float_format="%.6f"))
    if 1 < len(rows) <= SHOWN:
        print_similarities(list(rows), table.to_numpy(), threshold)
    print(out)


def load_run(folder: Path) -> tuple[Any, float | None]:
    """A function from a picture file to its embedding ``(d,)`` of length 1, and the run's threshold if it has one.

    Raises:
        FacenasError: if this is no run of a recognition network, or it is damaged.
    """
    import numpy as np
    import torch

    from searchspaces import Architecture
    from searchspaces.errors import ConfigError, RunFolderError
    from searchspaces.files import read_json

    from .batches import centre_crop, normalise
    from .datasets.folder import read_picture

    architecture = Architecture.load(folder)
    if getattr(architecture.model_space(), "task", None) != "recognition":
        raise ConfigError(f"{folder} holds a network of the space {architecture.space!r}, not one for recognition.")
    network = architecture.build(weights=folder / "weights.safetensors").eval()
    data, metrics = read_json(folder / "data.json"), {}
    if (folder / "metrics.json").is_file():
        metrics = read_json(folder / "metrics.json")
    size = data.get("image_size", architecture.input_size[-1]) if isinstance(data, dict) else None
    if type(size) is not int or not architecture.input_size[-1] <= size <= LARGEST_SIDE:
        raise RunFolderError(f"{folder / 'data.json'} is damaged: its image_size is {size!r}.")
    threshold = metrics.get("threshold", {"value": None}) if isinstance(metrics, dict) else None
    value = threshold.get("value") if isinstance(threshold, dict) else ""
    if value is not None and not (isinstance(value, int | float) and abs(value) < math.inf):
        raise RunFolderError(f"{folder / 'metrics.json'} is damaged: its threshold is {threshold!r}.")

    def embed(path: str) -> np.ndarray:
        pixels = torch.from_numpy(read_picture(Path(path), size))[None]
        batch = normalise(centre_crop(pixels, architecture.input_size[-1]))
        with torch.no_grad():
            vector = (network(batch) + network(batch.flip(-1)))[0].double().numpy()
        return vector / max(float(np.linalg.norm(vector)), 1e-12)

    return embed, value


def print_similarities(names: list[str], vectors: np.ndarray, threshold: float | None) -> None:
    """The cosine of each pair, the most similar first."""
    pairs = [(float(vectors[i] @ vectors[j]), i, j) for i in range(len(names)) for j in range(i)]
    for cosine, i, j in sorted(pairs, reverse=True):
        verdict = "" if threshold is None else "  same person" if cosine >= threshold else "  different people"
        print(f"{cosine:+.3f}{verdict}  {names[j]}  {names[i]}")
    if threshold is not None:
        print(f"(threshold {threshold:.3f}: equal errors on the run's own test people)")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.embed"))

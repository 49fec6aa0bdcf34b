"""How much less a tree's search keeps for its backward pass when one sampled path runs:
``python -m benchmarks.single_path_memory``.

ASFD (section 3.2) gives no figure. The graph of PC-DARTS has n (n + 1) / 2 edges for n nodes, a sampled tree n, so the
ratio should be (n + 1) / 2 but for the output's convolution, which both have.
"""

from __future__ import annotations

import json
import statistics


def saved_bytes(module, x) -> int:
    """Bytes that autograd keeps for the backward pass of ``module(x)``, each storage once, parameters left out."""
    import torch

    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}
    alive = []  # a freed storage's address would be used again

    def pack(tensor):
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x).sum()
    return sum(kept.values())


def measure(nodes: int, width: int, side: int, batch: int, partial_channels: int, samples: int) -> dict[str, float]:
    """Bytes of PC-DARTS and of the sampled path (median of some samples) on one level's tree."""
    import torch

    from searchspaces import build_space
    from strategies.autofem import MixedTree
    from strategies.gumbel import GumbelTree

    torch.manual_seed(0)
    x = torch.randn(batch, width, side, side)
    tree = build_space("autofem-cpm", backbone="mobilenet_0.25", width=width, nodes=nodes).trees[0]
    graph = saved_bytes(MixedTree(tree, {}, partial_channels), x)
    sampled = GumbelTree(tree, {}, "edges", partial_channels)
    path = statistics.median(saved_bytes(sampled, x) for _ in range(samples))
    return {"nodes": nodes, "pc_darts": graph, "single_path": path, "ratio": graph / path, "edges": (nodes + 1) / 2}


def main(
    nodes: list[int] | None = None,
    width: int = 64,
    side: int = 20,
    batch: int = 2,
    partial_channels: int = 4,
    samples: int = 5,
    as_json: bool = False,
) -> None:
    """Compare the activations that PC-DARTS and the Gumbel single path keep on one AutoFEM-CPM.

    Args:
        nodes: numbers of nodes; 4, 6 and 8 by default, those of the paper's Table 3.
        width: channels.
        side: of the map.
        batch: pictures.
        partial_channels: K of both.
        samples: trees that are drawn; the median counts.
        as_json: print an object instead of a table.
    """
    rows = [measure(each, width, side, batch, partial_channels, samples) for each in nodes or [4, 6, 8]]
    if as_json:
        print(json.dumps({"rows": rows, "ratios": {str(row["nodes"]): row["ratio"] for row in rows}}))
        return
    print(f"saved for the backward pass, {width} channels, {side}x{side}, batch {batch}, K {partial_channels}")
    print("nodes   PC-DARTS      single path   ratio   edges' ratio (n + 1) / 2")
    for row in rows:
        mib = [row[key] / 2**20 for key in ("pc_darts", "single_path")]
        print(f"{row['nodes']:5d}   {mib[0]:7.2f} MiB   {mib[1]:7.2f} MiB   {row['ratio']:5.2f}   {row['edges']:5.2f}")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.single_path_memory"))

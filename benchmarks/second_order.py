"""How far DARTS' finite difference (Eq. 8) is from the exact second-order term (Eq. 7) on a supernet of Auto-FAS.

    python -m benchmarks.second_order

For each precision and radius: the error of the Hessian's term over the term's own norm, for each cell type. An error
of 1 means that the approximation is as wrong as leaving the term out.
"""

from __future__ import annotations


def main(channels: int = 8, size: int = 20, pictures: int = 16, seed: int = 0) -> None:
    """Compare the finite difference with exact differentiation on random pictures.

    Args:
        channels: width of the supernet's two cells, each of two nodes.
        size: side of the pictures.
        pictures: pictures of a batch.
        seed: seed of weights and pictures.
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from searchspaces import build_space
    from strategies import DARTS
    from strategies.bilevel import mixed_product, mixed_product_by_difference
    from strategies.supernet import MixedCell

    table = Table("precision", "radius", "reduction cell", "normal cell")
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(seed)
        network = DARTS().mutate_model(build_space("autofas", channels=channels, layout="RN", nodes=2)).to(dtype)
        cells = [module for module in network.modules() if isinstance(module, MixedCell)]
        alphas = list(dict.fromkeys(parameter for cell in cells for parameter in cell.arch_parameters()))
        weights = [p for p in network.parameters() if not any(p is alpha for alpha in alphas)]
        halves = torch.randn(2, pictures, 3, size, size, dtype=dtype)
        labels = torch.randint(0, 2, (2, pictures)).to(dtype)

        def loss(half: int, network=network, halves=halves, labels=labels) -> torch.Tensor:  # type: ignore[no-untyped-def]
            logits = network(halves[half]).mean((1, 2, 3))
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[half])

        vector = torch.autograd.grad(loss(1), weights)
        exact = mixed_product(lambda loss=loss: loss(0), weights, alphas, vector)  # type: ignore[misc]
        for radius in (1e-2, 1e-3, 1e-4, 1e-6):
            found = mixed_product_by_difference(lambda loss=loss: loss(0), weights, alphas, vector, radius)  # type: ignore[misc]
            errors = [f"{((f - e).norm() / e.norm()).item():.2g}" for f, e in zip(found, exact, strict=True)]
            table.add_row(str(dtype).removeprefix("torch."), f"{radius:g}", *errors)
    Console().print(table)


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.second_order"))

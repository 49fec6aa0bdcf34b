"""What a search space must do."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hardware.counters import count, count_parameters
from hardware.runtimes import onnxruntime
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError
from searchspaces.nni_space import to_choices, to_parameters, to_search_space
from searchspaces.registry import find_space
from searchspaces.sampling import random_choices

LARGEST_DIFFERENCE = 1e-4  # between a network's outputs here and in ONNX Runtime


class SpaceTestCase:
    """Tests of one space, at random points.

    Attributes:
        space: the name of a registered space, or ``package.module:ClassName``.
        options: options with which the space is quick to test.
        points: random points that each test looks at.
    """

    space: str
    options: ClassVar[Mapping[str, Any]] = {}
    points = 2

    def architectures(self) -> Iterator[Architecture]:
        """The points."""
        for seed in range(self.points):
            choices = random_choices(self.make_space(), np.random.RandomState(seed))
            yield Architecture(self.space, dict(self.options), choices)

    def make_space(self) -> Any:
        """The space itself."""
        return build_space(self.space, **self.options)

    def pictures(self, n: int = 4) -> Tensor:
        """Noise ``(n, 3, S, S)`` of the space's input size."""
        return torch.randn(n, *self.make_space().input_size, generator=torch.Generator().manual_seed(0))

    def test_it_says_what_pictures_it_takes(self) -> None:
        size = getattr(self.make_space(), "input_size", None)
        assert isinstance(size, tuple) and len(size) == 3, "set input_size to (channels, height, width) in __init__"

    def test_every_parameter_of_a_network_learns(self) -> None:
        for architecture in self.architectures():
            network = architecture.build(seed=0).train()
            network(self.pictures()).square().sum().backward()
            idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
            assert not idle, f"these parameters have no gradient, so they are never used: {idle}"

    def test_equal_seeds_give_equal_weights(self) -> None:
        architecture = next(self.architectures())
        first, second = (architecture.build(seed=3).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first), (
            "draw weights from torch's generator alone"
        )

    def test_a_network_survives_its_file(self) -> None:
        for architecture in self.architectures():
            with tempfile.TemporaryDirectory() as folder:
                again = Architecture.load(architecture.save(Path(folder) / "architecture.json"))
            assert again == architecture
            first, second = (each.build(seed=3).eval() for each in (architecture, again))
            with torch.no_grad():
                assert torch.equal(first(self.pictures()), second(self.pictures()))

    def test_nni_freezes_to_the_same_network(self) -> None:
        for architecture in self.architectures():
            frozen = architecture.model_space().freeze(dict(architecture.choices)).eval()
            built = architecture.build().eval()
            built.load_state_dict(frozen.state_dict())
            with torch.no_grad():
                assert torch.equal(frozen(self.pictures()), built(self.pictures()))

    def test_it_is_a_search_space_of_nnis_experiments(self) -> None:
        text = json.dumps(to_search_space(self.make_space()), allow_nan=False)
        assert json.loads(text), "a space without choices has nothing to search"
        for architecture in self.architectures():
            parameters = json.loads(json.dumps(to_parameters(architecture.choices)))
            assert to_choices(self.make_space(), parameters) == architecture.choices

    def test_a_network_is_counted_exported_and_equal_in_the_runtime(self) -> None:
        for architecture in self.architectures():
            network, size = architecture.build(seed=0).eval(), architecture.input_size
            assert count(network, size) > 0
            stored = count_parameters(network, size)["stored"]
            assert stored == sum(parameter.numel() for parameter in network.parameters())
            with tempfile.TemporaryDirectory() as folder:
                path = onnxruntime.export(network, size, Path(folder) / "network.onnx")
                assert onnxruntime.check(network, path, size) < LARGEST_DIFFERENCE

    def test_a_network_can_be_drawn(self) -> None:
        for architecture in self.architectures():
            assert len(architecture.graph()) > 2, "graph(choices) is what a report draws, a networkx.MultiDiGraph"

    def test_it_says_what_its_paper_leaves_open_and_refuses_unknown_options(self) -> None:
        assert all(choice.why for choice in find_space(self.space).open_choices)
        try:
            build_space(self.space, no_such_option=1)
        except ConfigError as error:
            assert "no option 'no_such_option'" in str(error)
        else:
            raise AssertionError("an option that the constructor does not name was taken")

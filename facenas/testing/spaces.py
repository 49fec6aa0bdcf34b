"""What facenas expects of a search space."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from hardware.counters import count, count_parameters
from hardware.runtimes import onnxruntime
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, CostError
from searchspaces.nni_space import to_choices, to_parameters, to_search_space
from searchspaces.registry import find_space
from searchspaces.sampling import random_choices


class SpaceTestCase:
    """Tests of a search space; see `facenas.testing`.

    Attributes:
        space: ``package.module:ClassName`` of your ModelSpace, or a registered name.
        options: of its constructor; small networks make the tests quick.
        points: how many random networks the tests look at.
    """

    space: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    points: ClassVar[int] = 2

    def make_space(self) -> ModelSpace:
        """The space."""
        return build_space(self.space, **self.options)

    def architectures(self) -> Iterator[Architecture]:
        """Random networks of the space, the same at every call."""
        for seed in range(self.points):
            yield Architecture(self.space, self.options, random_choices(self.make_space(), np.random.RandomState(seed)))

    # ---- what may be chosen

    def test_labels_and_values_are_json(self) -> None:
        mutables = self.make_space().simplify()
        assert mutables, f"{self.space} has nothing to choose: give its choices to attributes of `self`."
        for label, mutable in mutables.items():
            assert isinstance(label, str), f"The label {label!r} must be a text: it is a key of a JSON object."
            values = getattr(mutable, "values", mutable.default())
            assert _survives_json(values), (
                f"The values of {label!r}, {values!r}, are others after JSON: choose among texts, numbers and lists. "
                "A LayerChoice of a dict has the keys for values."
            )

    def test_labels_are_the_same_in_every_process(self) -> None:
        first, second = (sorted(self.make_space().simplify()) for _ in range(2))
        assert first == second, (
            f"Built twice, {self.space} has different labels, {first} and {second}: give every choice a label of its "
            "own, as in LayerChoice(..., label='block_0')."
        )

    def test_random_points_are_valid(self) -> None:
        space = self.make_space()
        for seed in range(10):
            choices = random_choices(space, np.random.RandomState(seed))
            problem = space.check_contains(dict(choices))
            assert problem is None, f"{choices} was drawn from {self.space}, but NNI refuses it: {problem}."
            kept = Architecture(self.space, self.options, choices).choices
            assert kept.keys() == choices.keys(), "`canonical` of the space must keep all labels."

    def test_tuners_of_nni_can_choose(self) -> None:
        space = self.make_space()
        assert _survives_json(to_search_space(space)), "The search space for `nnictl` is no JSON."
        for architecture in self.architectures():
            choices = to_choices(space, to_parameters(architecture.choices))
            assert choices == architecture.choices, f"A tuner would try {choices} in place of {_said(architecture)}."

    def test_unknown_options_are_refused(self) -> None:
        try:
            build_space(self.space, **{**self.options, "colour": 1})
        except ConfigError as error:
            assert "no option 'colour'" in str(error), f"The message does not name the option: {error}"
        else:
            raise AssertionError(f"{self.space} takes the option 'colour': name all options in its constructor.")

    def test_open_choices_have_reasons(self) -> None:
        for choice in find_space(self.space).open_choices:
            assert choice.why, f"Say why {choice.option!r} is {choice.default!r}: every report shows it."

    # ---- networks

    def test_a_network_takes_pictures_of_its_input_size(self) -> None:
        size = getattr(self.make_space(), "input_size", None)
        assert isinstance(size, tuple) and len(size) == 3 and size[0] == 3, (
            f"input_size is {size}: the space needs an attribute or property (3, height, width)."
        )
        for architecture in self.architectures():
            with torch.no_grad():
                outputs = architecture.build(seed=0).eval()(pictures_for(architecture))
            assert isinstance(outputs, Tensor) and len(outputs) == 4, "Four pictures must give a tensor of four rows."
            assert torch.isfinite(outputs).all(), f"A new network of {_said(architecture)} gives no finite outputs."

    def test_every_parameter_of_a_network_learns(self) -> None:
        for architecture in self.architectures():
            network = architecture.build(seed=0).train()
            network(pictures_for(architecture)).square().sum().backward()
            idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
            assert not idle, f"With {_said(architecture)} the outputs do not depend on {idle}: leave them out."

    def test_a_network_survives_its_file(self) -> None:
        for architecture in self.architectures():
            with tempfile.TemporaryDirectory() as folder:
                again = Architecture.load(architecture.save(Path(folder, "architecture.json")))
            assert again == architecture, f"{_said(architecture)} came back from the file as {_said(again)}."
            first, second = (each.build(seed=3).eval() for each in (architecture, again))
            assert _same_outputs(first, second, architecture), (
                "Two networks of equal choices and seed differ: draw weights from torch's own generator alone."
            )

    def test_nni_freezes_to_the_same_network(self) -> None:
        for architecture in self.architectures():
            frozen = architecture.model_space().freeze(dict(architecture.choices)).eval()
            built = architecture.build().eval()
            differing = frozen.state_dict().keys() ^ built.state_dict().keys()
            assert not differing, (
                f"With {_said(architecture)}, `freeze` and NNI's model_context give different weights, {differing}: "
                "`freeze` and `create_fixed_module` of a module must build the same."
            )
            built.load_state_dict(frozen.state_dict())
            assert _same_outputs(frozen, built, architecture), (
                f"With {_said(architecture)} and equal weights, `freeze` and NNI's model_context give other outputs."
            )

    def test_a_network_is_counted(self) -> None:
        for architecture in self.architectures():
            network = architecture.build(seed=0).eval()
            assert count(network, architecture.input_size) > 0, f"No multiply-accumulates with {_said(architecture)}."
            stored = count_parameters(network, architecture.input_size)["stored"]
            own = sum(parameter.numel() for parameter in network.parameters())
            assert stored == own, f"{stored} parameters were counted of {own}."

    def test_a_network_is_exported_and_equal_in_the_runtime(self) -> None:
        for architecture in self.architectures():
            network = architecture.build(seed=0).eval()
            with tempfile.TemporaryDirectory() as folder:
                path = onnxruntime.export(network, architecture.input_size, Path(folder, "network.onnx"))
                try:
                    onnxruntime.check(network, path, architecture.input_size)
                except CostError as error:
                    raise AssertionError(
                        f"With {_said(architecture)}: {error} A Python condition on a tensor, for example, is not "
                        "exported."
                    ) from error

    def test_a_network_can_be_drawn(self) -> None:
        """For spaces with a method ``graph``; a report of others has no drawing."""
        from reports import draw_architecture  # matplotlib takes a second

        if not hasattr(self.make_space(), "graph"):
            return
        for architecture in self.architectures():
            graph = architecture.graph()
            assert len(graph) > 2, "A graph needs an input, something chosen and an output."
            with tempfile.TemporaryDirectory() as folder:
                assert draw_architecture(graph, Path(folder, "network.png")).stat().st_size > 0


def pictures_for(architecture: Architecture, number: int = 4) -> Tensor:
    """Noise in the shape of a network's pictures, the same at every call."""
    return torch.randn(number, *architecture.input_size, generator=torch.Generator().manual_seed(0))


def _same_outputs(first: nn.Module, second: nn.Module, architecture: Architecture) -> bool:
    with torch.no_grad():
        return torch.equal(first(pictures_for(architecture)), second(pictures_for(architecture)))


def _survives_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _said(architecture: Architecture) -> str:
    return f"the choices {dict(architecture.choices)}"

"""One way to make a command out of a typed function: options and help from its signature, errors on one line."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

from .errors import ConfigError, FacenasError, nearest_name

INTERRUPTED = 130  # what a shell reports for Ctrl-C


def run_command(function: Callable[..., Any], argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Parse the command line for a function, call it, and return the exit code.

    Parameters without a default are positional, the others are options; the docstring (Google style) is the help.
    A function whose only parameter is a dataclass gets one option for each field, and ``--config FILE`` and
    ``--print_config``. A `FacenasError` is printed on one line and gives exit code 2.

    Args:
        function: what to run. Its return value is the exit code if it is an int.
        argv: the command line without the program's name; ``sys.argv`` by default.
        prog: the program's name in the help.
    """
    # Threads that spin long at barriers make torch ten times slower as soon as another program wants a core; a short
    # spin costs a tenth. The setting is read when torch is loaded, so it comes before anything heavy.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        parser, options_class = _build_parser(function, prog)
        given = sys.argv[1:] if argv is None else list(argv)
        _check_configs(given)
        values = parser.instantiate(parser.parse_args(given)).as_dict()
        values.pop("config", None)
        result = function(options_class(**values)) if options_class else function(**values)
    except FacenasError as error:
        print(f"facenas: {_without_worker(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("facenas: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` for example, has seen enough
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


def parse_command(function: Callable[..., Any], argv: Sequence[str]) -> dict[str, Any]:
    """The values that a command line gives a command's function, or an options dataclass; nothing is run.

    Raises:
        ConfigError: as the command itself would.
    """
    parser = _parser_of(function)
    _check_configs(argv)
    values = parser.instantiate(parser.parse_args(list(argv))).as_dict()
    values.pop("config", None)
    return dict(values)


def _check_configs(argv: Sequence[str]) -> None:
    """Refuse a damaged or hostile file behind ``--config``, which jsonargparse would answer with a traceback."""
    for place, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        file = value if equals else next(iter(argv[place + 1 :]), "")
        if option == "--config" and os.path.isfile(file):
            from .yaml_files import read_yaml

            read_yaml(file)


def options_of(function: Callable[..., Any]) -> list[Any]:
    """What a command's function or an options dataclass takes, as argparse's actions; without help and --config."""
    skipped = ("help", "config", "print_config")
    return [action for action in _parser_of(function)._actions if action.dest not in skipped]


def _parser_of(function: Callable[..., Any]) -> Any:
    return _build_parser(_taking(function) if dataclasses.is_dataclass(function) else function, None)[0]


def _taking(options_class: Any) -> Callable[..., Any]:
    """A function whose only parameter is an options dataclass."""

    def options(options: Any) -> None: ...

    options.__annotations__["options"] = options_class
    return options


def parse_values(options_class: type, values: dict[str, Any]) -> Any:
    """An instance of an options dataclass from the content of a config file, checked as a command line is.

    Raises:
        ConfigError: naming the option that is unknown or of the wrong type.
    """
    parser = _parser_of(options_class)
    checked = parser.instantiate(parser.parse_object(values)).as_dict()
    checked.pop("config", None)
    return options_class(**checked)


def _build_parser(function: Callable[..., Any], prog: str | None) -> tuple[Any, type | None]:
    import docstring_parser
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> typing.NoReturn:
            raise ConfigError(_one_line(message, self))

    options_class = _dataclass_parameter(function)
    source = options_class or function
    hints = typing.get_type_hints(source)
    help_texts = {
        entry.arg_name: " ".join((entry.description or "").split())
        for documented in reversed(inspect.getmro(options_class) if options_class else [function])
        for entry in docstring_parser.parse(documented.__doc__ or "").params
    }
    parser = Parser(prog=prog, description=inspect.cleandoc((function.__doc__ or "").partition("\n\n")[0]))
    parser.add_argument("--config", action="config", help="a YAML file with options, as a run folder holds it")
    defaults = {name: parameter.default for name, parameter in inspect.signature(source).parameters.items()}
    for field in dataclasses.fields(options_class) if options_class else ():
        if field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    for name, default in defaults.items():
        _add_argument(parser, name, hints[name], default, help_texts.get(name))
    return parser, options_class


def _add_argument(parser: Any, name: str, hint: Any, default: Any, text: str | None) -> None:
    """A parameter without a default is positional (a list takes one or more), a False default is a plain flag."""
    from jsonargparse import ActionYesNo

    option = f"--{name.replace('_', '-')}"

    if default is inspect.Parameter.empty:
        several = typing.get_origin(hint) is list
        parser.add_argument(name, nargs="+" if several else None, type=hint.__args__[0] if several else hint, help=text)
    elif hint is bool:
        prefix = {"yes_prefix": "", "no_prefix": "no-"} if default else {"yes_prefix": "", "no_prefix": None}
        parser.add_argument(option, action=ActionYesNo(**prefix), default=default, help=text)
    else:
        parser.add_argument(option, type=hint, default=default, help=text)


def _dataclass_parameter(function: Callable[..., Any]) -> type | None:
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) == 1:
        annotation = typing.get_type_hints(function).get(parameters[0])
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            return annotation
    return None


def _without_worker(text: str) -> str:
    """The message alone, where a process that loads pictures has put its traceback in front of it."""
    if "Original Traceback" not in text:
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


def _one_line(message: str, parser: Any) -> str:
    """jsonargparse's message on one line, with the nearest option for an unknown one."""
    text = " ".join(message.split())
    known = [option for action in parser._actions for option in action.option_strings]
    unknown = re.search(r"[Uu]nrecognized arguments: (\S+)", text) or re.search(
        r"Option '([\w.-]+)' is not accepted", text
    )
    if unknown:
        name = unknown.group(1).partition("=")[0]
        if not name.startswith("-") and "unrecognized" in text.lower():
            return f"Unexpected argument {name!r}. See --help."
        near = nearest_name(f"--{name.lstrip('-')}", known)
        shown = near if near is None or name.startswith("-") else near.removeprefix("--")
        return f"Unknown option {name!r}.{f' Did you mean {shown!r}?' if shown else ''} See --help."
    union = re.search(r"Does not validate against any .*? Subtypes: \[(.*)\] Errors: .* Given value: (.*)", text)
    if union:  # the first of its types is the one that is meant, the others are None
        first = union[1] if "Literal" in union[1] else union[1].partition(",")[0]
        text = f"{text[: union.start()]}Expected a {first}. Got value: {union[2]}"
    wrong = re.search(r'Parser key "([\w.-]+)": (.*)Expected an?(?:other)? (.*)\. Got value: (.*)', text)
    if wrong:
        key, _, expected, value = wrong.groups()
        literals = re.findall(r"'([^']*)'", expected) if "Literal" in expected else []
        near = nearest_name(value, literals)
        expected = f"one of {', '.join(literals)}" if literals else re.sub(r"<class '(\w+)'>|typing\.", r"\1", expected)
        expected = f"; expected {expected}" if expected != "type" else ", which is of the wrong type"
        if expected.startswith("; expected list["):
            expected += f", written as '[\"{value}\"]'"
        return f"Option {key!r} is {value!r}{expected}.{f' Did you mean {near!r}?' if near else ''}"
    return text

"""The console command: ``facenas search darts ...`` beside the ``python -m`` forms."""

from __future__ import annotations

import importlib
import sys

USAGE = """usage: facenas COMMAND ...

commands:
  search STRATEGY   search an architecture: darts, pc_darts, gumbel, single_path, evolution or random_search
  train             train a found architecture (python -m evaluators.train)
  prepare           cut faces out of a licensed data set, once (python -m evaluators.prepare)
  detect            find the faces of pictures with a trained detector (python -m evaluators.detect)
  embed             embeddings of pictures by a trained recognition network (python -m evaluators.embed)
  verify            judge a finished run once more, also on another data set (python -m evaluators.verify)
  scores            error rates from score files alone (python -m evaluators.score_files)
  reproduce         a paper's table on licensed data (python -m facenas.reproduce)
  published         write a network of a paper as an architecture file (python -m searchspaces.published)
  profile           count and measure an architecture or an ONNX file (python -m hardware.profile)
  measure           measure the latency of an architecture (python -m hardware.measure)
  learn             learn a device by measuring the kernels of a space (python -m hardware.learn)
  fit               learn a device from measured latencies (python -m hardware.fit)
  predict           predict latencies with a device profile (python -m hardware.predict)
  deploy            files and latency tiers for an application that switches branches (python -m hardware.deploy)
  report            write one page about finished runs (python -m reports)
  papers            print a paper's table beside ours (python -m reports papers)

experiments of NNI (docs/nni.md):
  nnictl            NNI's own command, with the web portal on this machine alone
  nni-space         write a search space for an experiment

this installation:
  doctor            what of this machine can be used, and how to mend what cannot
  completion        completion of commands and options for bash, zsh or tcsh

the usual way:
  facenas search darts --space autofas --out runs/a      # search, train, measure, report: minutes on two CPU cores
  facenas profile runs/a                                 # what the network costs
  facenas report runs/a runs/b --out both.html           # compare

facenas COMMAND --help tells a command's options, facenas search STRATEGY --help those of a search.
"""


# command -> where its function is, which is imported when it is called
COMMANDS = {
    "train": ("evaluators.train_command", "main"),
    "prepare": ("evaluators.prepare", "main"),
    "scores": ("evaluators.score_files", "main"),
    "reproduce": ("facenas.reproduce", "main"),
    "detect": ("evaluators.detect", "main"),
    "embed": ("evaluators.embed", "main"),
    "verify": ("evaluators.verify", "main"),
    "published": ("searchspaces.published", "main"),
    "profile": ("hardware.profile", "main"),
    "measure": ("hardware.measure", "main"),
    "learn": ("hardware.learn", "main"),
    "fit": ("hardware.fit", "main"),
    "predict": ("hardware.predict", "main"),
    "deploy": ("hardware.deploy", "main"),
    "report": ("reports.__main__", "report"),
    "papers": ("reports.__main__", "papers"),
    "nni-space": ("facenas.nni_space", "main"),
    "doctor": ("facenas.doctor", "main"),
    "completion": ("facenas.completion", "main"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand over to a command; its help and its errors are its own."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from . import __version__

        print(f"facenas {__version__}")
        return 0
    return _dispatch(arguments[0], arguments[1:])


def _dispatch(command: str, rest: list[str]) -> int:
    from searchspaces.cli import run_command
    from searchspaces.errors import FacenasError, UnknownNameError
    from searchspaces.nni_space import in_trial

    from .options import OPTIONS

    try:
        if command == "search":
            if in_trial() and (not rest or rest[0].startswith("-")):  # of an experiment that also chooses the strategy
                from .trial import trial_strategy

                rest = [trial_strategy(), *rest]
            if not rest or rest[0].startswith("-"):
                print(f"usage: facenas search STRATEGY ...\nstrategies: {', '.join(OPTIONS)}")
                return 0 if rest else 2
            if rest[0] not in OPTIONS:
                raise UnknownNameError("strategy", rest[0], OPTIONS)
            from .pipeline import search_command

            return search_command(rest[0], rest[1:])
        if command == "nnictl":
            from .nnictl import main as nnictl

            return nnictl(rest)
        if command not in COMMANDS:
            raise UnknownNameError("command", command, ("search", "nnictl", *COMMANDS))
    except FacenasError as error:
        print(f"facenas: {error}", file=sys.stderr)
        return error.exit_code
    module, function = COMMANDS[command]
    return run_command(getattr(importlib.import_module(module), function), rest, prog=f"facenas {command}")


if __name__ == "__main__":
    raise SystemExit(main())

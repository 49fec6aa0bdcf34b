"""The process of a trial that `strategies.nni_compat.NasExperiment` starts: NNI's own, with the trial's own parameters.

NNI fixes the end of such a trial's command, ``-m nni.nas.execution.training_service trial``; this module comes before
it and runs it.
"""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import runpy
    import sys
    import warnings

    from nni.runtime.trial_command_channel import set_default_trial_command_channel

    from evaluators.nni_trial import CHANNEL, OwnParameterChannel

    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nni\.nas\.nn\.pytorch\.layers")
    if CHANNEL in os.environ:
        set_default_trial_command_channel(OwnParameterChannel(os.environ[CHANNEL]))
    module = sys.argv[2]  # after -m
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

"""A trial that starts quickly. It dies early or late where its parameters or its number say so."""

from __future__ import annotations

import os
import sys
import time

if os.environ["NNI_TRIAL_SEQ_ID"] in sys.argv[1:]:
    sys.exit(3)  # before it has asked for its parameters

from evaluators.nni_trial import next_parameters, report_epoch, report_result

x = next_parameters()["x"]
if x % 7 == 3:
    sys.exit(4)  # after it
if "compare" in sys.argv:  # with what NNI gives
    import nni

    report_result({"own": x, "given": nni.get_next_parameter()["x"]}, float(x))
elif "silent" not in sys.argv:
    for epoch in range(int(os.environ.get("TOY_EPOCHS", "3"))):
        report_epoch({"x": x, "epoch": epoch}, x / 2**epoch)
        time.sleep(0.2 if "slow" in sys.argv else 0)
    report_result({"x": x, "milliseconds": 100.0 - x}, float(x))

"""Settings of the whole suite."""

from __future__ import annotations

import torch

# the suite runs in one process a core
torch.set_num_threads(1)

"""Networks in tests are tiny: a second thread costs more than it gives."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

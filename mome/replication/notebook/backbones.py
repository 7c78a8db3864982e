"""The backbones of the replication: all are asked in one form, so that their results compare."""

from __future__ import annotations

import torch

from mome.lm.backbones.named import NAMED
from mome.lm.loading import Backbone, load_backbone, shipped_backbones


def asked_backbone(name: str, device: str | None = None) -> Backbone:
    """The backbone `name`, asked as `Q: ... A:` whether or not it has a chat template.

    The paper prints no prompt; this one is our choice. Those that the project knows by name are in f32 on every device,
    so that results of a GPU and of a CPU compare. Arguments and errors are those of `load_backbone`.
    """
    ours = name in (*shipped_backbones(), *NAMED)
    return load_backbone(name, device, prompt="qa", dtype=torch.float32 if ours else None)

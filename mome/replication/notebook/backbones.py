"""The backbones of the replication: all are asked in one form, so that their results compare."""

from __future__ import annotations

from mome.lm.loading import Backbone, load_backbone


def asked_backbone(name: str, device: str | None = None) -> Backbone:
    """The backbone `name`, asked as `Q: ... A:` whether or not it has a chat template.

    The paper prints no prompt; this one is our choice. Arguments and errors are those of `load_backbone`.
    """
    return load_backbone(name, device, prompt="qa")

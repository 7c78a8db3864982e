"""The exception of everything that makes a backbone ready."""

from __future__ import annotations


class BackboneError(RuntimeError):
    """A backbone that cannot be loaded; the message names it and says what to do."""

"""Whether a front end is there in which someone can move a slider."""

from __future__ import annotations

from ipykernel.kernelbase import Kernel


def has_front_end() -> bool:
    """True where a front end with a user before it, such as JupyterLab, sent the cell that is running.

    Each request says whether its sender can ask a user for input (`allow_stdin`, Jupyter's messaging specification,
    "Execute"). JupyterLab, Notebook and VS Code can; nbclient cannot, and with it papermill and nbconvert. Outside a
    kernel there is no front end either.
    """
    if not Kernel.initialized():
        return False
    return bool(Kernel.instance().get_parent("shell").get("content", {}).get("allow_stdin", False))

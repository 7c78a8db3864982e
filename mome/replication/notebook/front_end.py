"""Whether a front end is there in which someone can move a slider, and what is shown there."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import pandas
from ipykernel.kernelbase import Kernel
from matplotlib.figure import Figure

DOTS = 90  # an inch


def has_front_end() -> bool:
    """True where a front end with a user before it, such as JupyterLab, sent the cell that is running.

    Each request says whether its sender can ask a user for input (`allow_stdin`, Jupyter's messaging specification,
    "Execute"). JupyterLab, Notebook and VS Code can; nbclient cannot, and with it papermill and nbconvert. Outside a
    kernel there is no front end either.
    """
    if not Kernel.initialized():
        return False
    return bool(Kernel.instance().get_parent("shell").get("content", {}).get("allow_stdin", False))


def shown(widget: Callable[[], Any], plain: Any) -> Any:
    """What `widget` makes where a user is there to use it, else `plain`, and then no widget is made.

    A widget without a front end is useless and can stop a run: nbclient then acts as the front end of the widget, and
    can miss the kernel's reply.
    """
    return widget() if has_front_end() else plain


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, for `ipywidgets.Image`, which needs no cell to print into."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS)
    return file.getvalue()


def table_html(table: pandas.DataFrame) -> str:
    """The table for `ipywidgets.HTML`, without frames and without its index; texts are escaped."""
    made: str = table.to_html(index=False, border=0, justify="left", classes="mome-box")
    return f"<style>.mome-box td, .mome-box th {{padding: 0.2em 0.8em; text-align: left}}</style>{made}"


def button(text: str, act: Callable[[], None]) -> ipywidgets.Button:
    """A button that calls `act`, and takes no second click before it is done."""
    made = ipywidgets.Button(description=text)

    def pressed(_: object) -> None:
        made.disabled = True
        try:
            act()
        finally:
            made.disabled = False

    made.on_click(pressed)
    return made

"""The slider is shown to someone who can move it, and to nobody else."""

from typing import Any

import nbformat
import pandas
import pytest
from nbclient import NotebookClient

from mome.replication.notebook.front_end import button, has_front_end, shown, table_html

BROWSE = """\
from mome.replication.paper.fig3_entropy.experiment import Panel
from mome.replication.paper.fig3_entropy.figure import browse
browse([Panel("before", "Who? Emma", ["a", "b"], [0.75, 0.25], 1, 1.4, 0.6, 30, 40)], 2048)
"""
CALCULATE = """\
from mome.replication.paper.sec1_cost.calculator import calculator
calculator({})
"""
ASK = "from mome.replication.notebook.front_end import has_front_end\nhas_front_end()"


class WithAUser(NotebookClient):
    """Says, as JupyterLab does, that it can ask a user for input."""

    async def async_start_new_kernel_client(self) -> Any:
        client = await super().async_start_new_kernel_client()
        client.allow_stdin = True
        return client


def data_of(client: type[NotebookClient], code: str, kernel: str) -> dict[str, Any]:
    """The data of the cell's result."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client(notebook, kernel_name=kernel, timeout=120, startup_timeout=120).execute()
    (output,) = [each for each in notebook.cells[0].outputs if each.output_type != "stream"]  # a library may warn
    return output["data"]


def test_outside_a_kernel_there_is_none() -> None:
    assert not has_front_end()


@pytest.mark.parametrize(("client", "answer"), [(NotebookClient, "False"), (WithAUser, "True")])
def test_the_sender_of_the_cell_says_whether_a_user_is_there(
    client: type[NotebookClient], answer: str, warm_kernel: str
) -> None:
    assert data_of(client, ASK, warm_kernel)["text/plain"] == answer


def test_nbclient_is_shown_a_figure_and_no_widget(warm_kernel: str) -> None:
    """This kernel had imported matplotlib before IPython could tell it where figures go, so the cell tells it."""
    data = data_of(NotebookClient, f"%matplotlib inline\n{BROWSE}", warm_kernel)
    assert "image/png" in data
    assert not [kind for kind in data if "widget" in kind]


def test_a_user_is_shown_the_slider(warm_kernel: str) -> None:
    assert "application/vnd.jupyter.widget-view+json" in data_of(WithAUser, BROWSE, warm_kernel)


def test_nbclient_is_shown_the_table_of_a_box(warm_kernel: str) -> None:
    data = data_of(NotebookClient, CALCULATE, warm_kernel)
    assert "text/html" in data and not [kind for kind in data if "widget" in kind]


def test_a_user_is_shown_the_box(warm_kernel: str) -> None:
    assert "application/vnd.jupyter.widget-view+json" in data_of(WithAUser, CALCULATE, warm_kernel)


def test_without_a_user_no_widget_is_made() -> None:
    assert shown(lambda: pytest.fail("a widget was made"), "plain") == "plain"


def test_a_button_takes_no_click_while_it_works_and_another_one_after_an_error() -> None:
    seen = []

    def act() -> None:
        seen.append(made.disabled)
        raise RuntimeError("full")

    made = button("Go", act)
    for _ in range(2):
        made.click()  # ipywidgets shows the error to the user
    assert seen == [True, True] and not made.disabled


def test_a_table_in_a_box_escapes_its_texts() -> None:
    html = table_html(pandas.DataFrame({"said": ["<b>x</b>"]}, index=["place"]))
    assert "&lt;b&gt;x" in html and "place" not in html and "border=" not in html

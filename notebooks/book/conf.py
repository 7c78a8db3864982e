"""How Sphinx builds the book (`make book`). The pages are put together by `assemble.py` before it starts."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from assemble import built_from

project = "mome"
copyright = "the contributors of mome, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx-mathjax-offline", "sphinxcontrib.bibtex"]
bibtex_bibfiles = [str(Path(__file__).parent / "references.bib")]
bibtex_default_style = "plain"  # numbers, as the pages name authors and years already
root_doc = "index"
templates_path: list[str] = []
exclude_patterns: list[str] = []

# the notebooks are shown as `mome reproduce` left them; nothing is run here
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}  # the scripts of widgets would come from the network
nb_output_stderr = "remove"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]  # notebooks may go from # to ###

autodoc_typehints = "none"  # the signature has them
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "sphinx_book_theme"
html_context = {"default_mode": "auto"}
html_title = "mome: memory experts, replicated"
html_static_path = [str(Path(__file__).parent / "static")]
html_js_files = ["sort.js", "names.js"]
html_css_files = ["book.css"]
# a browser asks for an icon by itself where a page names none
html_favicon = str(Path(__file__).parent / "static" / "icon.svg")
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "extra_footer": f"<p>{built_from()}</p>",
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search is in the side bar
}


def _literal(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings of the project write `code` as Markdown does; reStructuredText wants two backticks."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in lines]


def _live(app: Any, config: Any) -> None:
    """The files of the live page, which `assemble.py` copied beside the pages, go to the site as they are."""
    if (Path(app.srcdir) / "extra").is_dir():
        config.html_extra_path = [str(Path(app.srcdir) / "extra")]


def setup(app: Any) -> None:
    """Called by Sphinx; the docstrings are changed before Napoleon reads them."""
    app.connect("config-inited", _live)
    app.connect("autodoc-process-docstring", _literal, priority=100)

"""The documentation site: `sphinx-build -W -n docs build/site` (pip install '.[docs]')."""

from __future__ import annotations

import contextlib
import io
import shlex
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cellfeat import __version__
from cellfeat.cli import main

project = "cellfeat"
author = "The cellfeat contributors"
copyright = "The cellfeat contributors, Apache-2.0"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"cellfeat {version}"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # a notebook whose code no longer works fails the build
nb_execution_raise_on_error = True
nb_execution_timeout = 1200  # s a cell; on a busy machine an import alone takes minutes

default_role = "code"  # docstrings name code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Every type of a signature is a link, also to other packages and to what has no page; links in the text are checked.
nitpick_ignore_regex = [("py:.*", ".*")]


class CellfeatOutput(SphinxDirective):
    """What a command prints: `{cellfeat} dump -h`."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Run the command in this process; one that fails fails the build."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                main(shlex.split(self.arguments[0]))
            except SystemExit as end:
                if end.code:
                    raise self.error(f"cellfeat {self.arguments[0]}: exit status {end.code}") from None
        text = printed.getvalue()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("cellfeat", CellfeatOutput)
    return {"parallel_read_safe": True}

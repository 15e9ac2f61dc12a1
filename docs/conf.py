"""Sphinx's settings: one static site of the pages beside this file, the tutorial, and a reference of docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))  # the packages of this checkout, whatever else is installed

project = "memscale"
copyright = "the authors of memscale"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_reference"]
exclude_patterns = ["_*"]
templates_path: list[str] = []

html_theme = "furo"
html_title = "memscale"
html_copy_source = False

myst_heading_anchors = 4
nb_execution_mode = "force"  # the tutorial is kept without outputs; a site is built with those of its own code
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
# Names of other libraries are not looked up: that would need a network. Ours must be found, but for private ones and
# type variables, which have no place in the reference.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!(memscale|analysis)\.).*"), ("py:.*", r".*\.(_\w+|[A-Z])")]
# A short name in a signature may be that of classes in several rooms; such a name stays without a link.
suppress_warnings = ["ref.python"]

"""Sphinx configuration: `make docs`."""

from importlib.metadata import version as installed_version

project = "mcastfast"
author = "The mcastfast developers"
project_copyright = "2026, The mcastfast developers"
version = release = installed_version("mcastfast")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_title = f"mcastfast {version}"
exclude_patterns = ["_build"]

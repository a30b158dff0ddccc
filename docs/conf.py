"""How Sphinx builds these pages; nothing is fetched."""

import skastro

project = "skastro"
author = "The skastro developers"
copyright = author
version = release = skastro.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Parameters sections tell the types
numpydoc_show_class_members = False  # the template lists them
default_role = "literal"
toc_object_entries = False  # the members are on the page itself

html_theme = "alabaster"
html_theme_options = {
    "description": "Self-supervised learning for astronomical data",
    "fixed_sidebar": True,
    "page_width": "1080px",
    "show_relbars": True,
}
html_show_sourcelink = False

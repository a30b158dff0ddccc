"""How Sphinx builds these pages; nothing is fetched."""

import sys
from pathlib import Path

from docutils import nodes

import skastro
from skastro.plotting.style import COLORS

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "figures"))
from gallery import RUN, draw_thumbnails

project = "skastro"
author = "The skastro developers"
copyright = author
version = release = skastro.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosectionlabel",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "auto_examples/*.ipynb", "auto_examples/sg_execution_times.rst"]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Parameters sections tell the types
numpydoc_show_class_members = False  # the template lists them
default_role = "literal"
autosectionlabel_prefix_document = True
suppress_warnings = ["autosectionlabel.*"]  # of titles that a page has twice, which nobody links to
nitpicky = True
nitpick_ignore = [("py:class", "Answers")]  # the type of an attribute
toc_object_entries = False  # the members are on the page itself

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "logo": {"text": "skastro"},
    "navigation_with_keys": False,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 1,
}
html_sidebars = {"index": [], "start": []}
html_static_path = ["_static"]
html_css_files = ["skastro.css"]
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler(color={list(COLORS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": "0.9",
    "legend.fontsize": 9,
    "legend.frameon": False,
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": RUN,
    "ignore_pattern": "^light_curves",
    "within_subsection_order": "gallery.Order",
    "reset_argv": "gallery.arguments",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skastro",),
    "reference_url": {"skastro": None},
    "remove_config_comments": True,
    "show_memory": False,
    "abort_on_example_error": True,
}

# Names of other libraries, at the addresses that their own pages give them.
ELSEWHERE = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{0}.html#{0}",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{0}.html#{0}",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{0}.html#{0}",
    "joblib": "https://joblib.readthedocs.io/en/latest/generated/{0}.html#{0}",
    "astropy": "https://docs.astropy.org/en/stable/api/{0}.html#{0}",
}


def link_elsewhere(app, env, node, content):
    """Link a name of another library."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or name.split(".")[0] not in ELSEWHERE:
        return None
    return nodes.reference("", "", content, refuri=ELSEWHERE[name.split(".")[0]].format(name), internal=False)


def setup(app):
    """Connect what is above."""
    app.connect("missing-reference", link_elsewhere)
    app.connect("builder-inited", draw_thumbnails, priority=100)  # the gallery is made there too

"""How the documentation is built: `python -m sphinx -W -b html docs docs/_build/html`.

No page, inventory or script comes from the network. `-D plot_gallery=0` leaves out the
runs of the examples, which take most of the time.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch comes: an example a core

import rs4a

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

project = "rs4a"
author = copyright = "The rs4a developers"  # noqa: A001 - Sphinx's name
version = release = rs4a.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "links_on_github",
    "own_members",
    "public_kinds",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = True  # names of this package lead to their pages; of others there are none here
nitpick_ignore_regex = [("py:.*", r"(?!rs4a).*")]

# What an anchor is called is the same here as on GitHub.
myst_heading_anchors = 4

autosummary_generate = True
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "ignore_pattern": "reproduce",
    "within_subsection_order": "gallery_settings.place",
    "reset_argv": "gallery_settings.arguments",
    "abort_on_example_error": True,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_memory": False,
    "parallel": os.cpu_count(),
    "image_srcset": ["2x"],
    "doc_module": ("rs4a",),
    "reference_url": {"rs4a": None},
    "backreferences_dir": "gallery/backreferences",
}

html_theme = "pydata_sphinx_theme"
html_title = "rs4a"
html_static_path = ["_static"]
html_css_files = ["rs4a.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "benchmarks": [], "what_a_certificate_says": []}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

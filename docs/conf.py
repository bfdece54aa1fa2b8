"""How the documentation is built: ``make docs``. Nothing is fetched; each tutorial is run."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lightning_hessian

project = "lightning_hessian"
author = "the authors of lightning_hessian"
release = version = lightning_hessian.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = "lightning_hessian"
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# signatures are long: one argument a line, types beside the arguments
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 90
napoleon_google_docstring = True
napoleon_numpy_docstring = False
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    # every program is run, and one that fails fails the build
    "filename_pattern": r"\.py$",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1,
    "image_scrapers": ("docs.scraper.last_figure",),
    "reset_modules": (),
    "ignore_repr_types": r"matplotlib[.]figure",
    "default_thumb_file": str(ROOT / "examples" / "pictures" / "spectrum.png"),
}

"""Sphinx's settings; docs/site/stage.py makes the pages."""

from __future__ import annotations

from typing import Any

import lstmcore

project = "lstmcore"
version = release = lstmcore.__version__
author = copyright = "the lstmcore developers"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"lstmcore {release}"
html_show_sourcelink = False
html_copy_source = False

# Single backticks name an object where there is one of that name, and else are code.
default_role = "py:obj"
myst_heading_anchors = 4
myst_links_external_new_tab = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_typehints = "none"  # docstrings say more than types
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
add_module_names = False
highlight_language = "text"
# Types are prose ("float in [0, 1)"), and single backticks hold parameters too: only what begins with lstmcore. has to
# be there.
nitpicky = True
nitpick_ignore_regex = [(r"py:class", r".*"), (r"py:obj", r"(?!lstmcore\.[a-z_.A-Z]+$).*")]


def skip(app: Any, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """Members that scikit-learn, sktime or NumPy bring along are documented there."""
    function = getattr(value, "fget", value)
    module = getattr(function, "__module__", None)
    if isinstance(module, str) and not module.startswith("lstmcore"):
        return True
    return None


def call(app: Any, env: Any, node: Any, content: Any) -> Any:
    """`lstmcore.cells()` means lstmcore.cells."""
    target = str(node.get("reftarget"))
    if node.get("refdomain") != "py" or "(" not in target:
        return None
    domain, name = env.domains.python_domain, target.partition("(")[0]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", call)

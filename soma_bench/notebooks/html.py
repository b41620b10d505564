"""An executed notebook as one HTML file that needs no network."""

from __future__ import annotations

import copy
import logging

import nbformat

# Scripts of nbconvert's own template would be fetched from elsewhere; nothing here needs them.
_TEMPLATE = """\
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock html_head_js -%}
{%- block html_head_js_mathjax -%}{%- endblock html_head_js_mathjax -%}
{%- block html_head_js_mermaidjs -%}{%- endblock html_head_js_mermaidjs -%}
{%- block jupyter_widgets -%}{%- endblock jupyter_widgets -%}
"""
# A widget and a script live with a kernel only; beside them an output has a form to be read.
_SHOWN_FORMS = [
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/latex",
    "image/png",
    "image/jpeg",
    "text/plain",
]


def notebook_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """The notebook with its outputs as HTML, styles and pictures inside it.

    Args:
        notebook: the notebook.
        title: the page's title.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        raw_template=_TEMPLATE,
        embed_images=True,
        config=Config({"NbConvertBase": {"display_data_priority": _SHOWN_FORMS}}),
    )
    shown = copy.deepcopy(notebook)
    shown.metadata.pop("widgets", None)
    exporter.log = logging.getLogger(f"{__name__}.nbconvert")
    exporter.log.setLevel(logging.ERROR)
    page, _ = exporter.from_notebook_node(shown, {"metadata": {"name": title}})
    return str(page)

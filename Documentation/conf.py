# SPDX-License-Identifier: GPL-2.0
"""For `make htmldocs`. The pages are written to be read as they are, too."""

from docutils import nodes

project = "kvm-riscv-rs"
root_doc = "index"
exclude_patterns = ["performance"]
html_theme = "alabaster"


def link_pages(app, doctree):
    """A link to a page's source becomes one to the page."""
    for link in doctree.findall(nodes.reference):
        uri = link.get("refuri", "")
        if uri.endswith(".rst"):
            link["refuri"] = f"{uri[:-4]}.html"


def setup(app):
    app.connect("doctree-read", link_pages)

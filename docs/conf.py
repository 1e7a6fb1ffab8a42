"""The documentation as a site: ``make docs`` writes it to ``docs/_build/html``."""

from entlaw._version import __version__

project, author, copyright = "entlaw", "the entlaw developers", "the entlaw developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "sphinx_copybutton"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "entlaw"
html_copy_source = html_show_sourcelink = False
html_last_updated_fmt = None  # the same pages every time
html_static_path: list[str] = []

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# Links out of docs/ go to files of the repository, which a site does not have.
suppress_warnings = ["myst.xref_missing", "myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections say it
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


def _commands(app, docname: str, source: list[str]) -> None:
    """The page of the command line is written from the commands themselves."""
    if docname == "cli":
        from entlaw.cli.app import app as entlaw

        text = entlaw.generate_docs(output_format="markdown")
        _, _, commands = text.partition("\n## entlaw ")  # without its own table of contents
        source[0] = f"{source[0]}\n\n## entlaw {commands}"


def setup(app):
    app.connect("source-read", _commands)

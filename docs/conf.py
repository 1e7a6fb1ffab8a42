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
        source[0] = "# Command line\n\n## entlaw " + commands


def _rows(heads: list[str], rows) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _settings() -> str:
    """A table of settings for each table of a recipe."""
    from entlaw.train.recipe import settings, show, tables

    words = {
        "translated": "worked out",
        "data": "in the data",
        "told": "not used",
        "idle": "",
        "refused": "refused",
    }
    parts = []
    for table, says in tables().items():
        rows = [
            [
                f"`{s.key.rpartition('.')[2]}`",
                f"`{show(s.default)}`",
                s.range,
                s.unit,
                s.doc,
                f"`{s.verl.text}`" if s.verl.how == "named" else words[s.verl.how],
            ]
            for s in settings().values()
            if s.key.rpartition(".")[0] == table
        ]
        if rows:
            heads = ["setting", "default", "range", "unit", "what it is", "in verl"]
            parts.append(f"## {table}\n\n{says}\n\n{_rows(heads, rows)}\n")
    return "\n".join(parts)


def tables() -> dict[str, str]:
    """What stands in a page as ``<!-- table: NAME -->``, made from the registries that the trainer itself reads."""
    from entlaw.train.advantages import ESTIMATORS
    from entlaw.train.controls import CONTROLS
    from entlaw.train.losses import LOSSES

    def formulas(heads, registry):
        return _rows(heads, [[f"`{e.name}`", e.formula, e.reference] for e in registry.values()])

    return {
        "estimators": formulas(
            ["`algorithm.name`", "advantage of response i, token t", "source"], ESTIMATORS
        ),
        "losses": formulas(["`loss.kind`", "what it is", "source"], LOSSES),
        "controls": _rows(
            ["turned on by", "what it does", "source"],
            [[f"`{c.switch}`", c.__doc__.splitlines()[0], c.reference] for c in CONTROLS.values()],
        ),
        "settings": _settings(),
    }


def _tables(app, docname: str, source: list[str]) -> None:
    if "<!-- table: " in source[0]:
        for name, text in tables().items():
            source[0] = source[0].replace(f"<!-- table: {name} -->", text)


def setup(app):
    app.connect("source-read", _commands)
    app.connect("source-read", _tables)

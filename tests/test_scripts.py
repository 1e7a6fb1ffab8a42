"""Scripts outside the package: every name that they import from it exists, and the table of runs is what they make."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.conftest import REPO

SCRIPTS = sorted(p for folder in ("benchmarks", "runs", "docs") for p in (REPO / folder).rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(REPO)))
def test_what_a_script_imports_of_entlaw_exists(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "entlaw":
            try:
                module = importlib.import_module(node.module)
            except ModuleNotFoundError as error:
                if error.name and error.name.startswith("entlaw"):
                    raise
                continue  # torch, vLLM or verl is not installed here
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")

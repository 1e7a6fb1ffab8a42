"""One name, one thing: a public class or type of the package is defined in one module."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "entlaw"
# Defined twice until the sandbox is redesigned; a name that is no longer here twice is taken off the list.
LEFT = {"Test"}


def types_of(module: Path) -> set[str]:
    """Public classes and type aliases (capitalised names with a small letter) that a module defines at its top."""
    names: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = {target.id for target in targets if isinstance(target, ast.Name)}
            names |= {name for name in found if name[0].isupper() and not name.isupper()}
    return {name for name in names if not name.startswith("_")}


def test_no_type_is_defined_in_two_modules():
    where: dict[str, list[str]] = defaultdict(list)
    for module in sorted(PACKAGE.rglob("*.py")):
        for name in types_of(module):
            where[name].append(module.relative_to(PACKAGE).as_posix())
    twice = {name: modules for name, modules in where.items() if len(modules) > 1}
    assert set(twice) <= LEFT, f"rename one of them: { {n: m for n, m in twice.items() if n not in LEFT} }"
    assert set(twice) == LEFT, f"take {sorted(LEFT - set(twice))} off the list"

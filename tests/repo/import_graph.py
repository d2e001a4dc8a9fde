"""Which files of the project import which modules, read from the source without importing anything."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(path, *, at_import_time=False):
    """Full names of the modules that a file imports; `if TYPE_CHECKING` and, on request, function bodies left out."""
    names = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((ROOT / path).read_text()))
    return names


def closure(start, *, at_import_time=False):
    """Files of the project that importing `start` reaches."""
    seen, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path, at_import_time=at_import_time):
            base = Path(*name.split("."))
            todo += [p for p in (base.with_suffix(".py"), base / "__init__.py") if (ROOT / p).is_file()]
        todo += [p / "__init__.py" for p in path.parents if (ROOT / p / "__init__.py").is_file() and p != Path(".")]
    return seen

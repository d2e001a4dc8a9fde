"""Every public array argument states its shape: in its name (`image_BCHW`) or in the docstring (`[B, C, H, W]`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for folder in ("model", "components") for path in (ROOT / folder).rglob("*.py"))
ALIAS = re.compile(r"^(\w+)(?:: TypeAlias)? = npt\.NDArray", re.M)
ALIASES = {name for path in MODULES for name in ALIAS.findall(path.read_text())}
ARRAYS = {"Tensor", "NDArray"} | ALIASES - {"Heights"}  # Heights is also a dataclass
COLLECTIONS = {"Mapping", "dict", "list", "Iterable", "Iterator", "Sequence", "Callable", "tuple"}
LETTERS = re.compile(r"_[A-Za-z0-9]*[A-Z][A-Za-z0-9]*$")
SHAPE = re.compile(r"`\[[^`]+\]`|scalar|any shape|shape as|same shape")


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.FunctionDef):
                yield node
            else:
                yield from public_functions(node)


def arrays_without_shape(function: ast.FunctionDef) -> Iterator[str]:
    docstring = ast.get_docstring(function) or ""
    for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
        words = set(re.findall(r"\w+", ast.unparse(argument.annotation))) if argument.annotation else set()
        if words & ARRAYS and not words & COLLECTIONS and not LETTERS.search(argument.arg):
            line = re.search(rf"^ *{argument.arg}:.*(\n {{8}}.*)*", docstring, re.M)
            if not SHAPE.search(line[0] if line else docstring):
                yield argument.arg


def test_every_public_array_argument_names_its_shape():
    missing = [
        f"{path.relative_to(ROOT)}: {function.name}({argument})"
        for path in MODULES
        for function in public_functions(ast.parse(path.read_text()))
        for argument in arrays_without_shape(function)
    ]
    assert missing == []

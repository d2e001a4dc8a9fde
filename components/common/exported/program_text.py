"""Check the text of a program of torch: it calls operators of ATen, and what torch evaluates in it is arithmetic.

In: the JSON of a program. Out: nothing, or one sentence about the first thing that could do something else.
`ast` parses expressions without running them.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from components.common.exported.graph_layout import MOST_VALUES, refused

ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
ARITHMETIC = re.compile(r"(_operator\.(add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|getitem)|"
                        r"torch\.sym_(int|float|max|min|not|sum)|math\.(ceil|floor|trunc))")  # fmt: skip
FILES = {"from_file", "save"}
"""Operators of ATen that open a file."""

INNER = re.compile(r"_[^_].*")
"""Operators of ATen that are not for callers: some print, and some read memory without a check of its bounds."""

USED_INNER = re.compile(r"_(assert_\w+|to_copy|unsafe_view|unsafe_index|softmax|log_softmax)")
"""Those of them that exported programs have."""

CALLS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Min", "Max", "Mod", "FloorDiv", "PythonMod", "CleanDiv"),
    *("CeilToInt", "FloorToInt", "TruncToInt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality"),
    *("StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "Unequality", "ToFloat", "IntTrueDiv"),
}
"""Functions of an expression over sizes."""

GUARD_CALLS = {"min", "max", "sym_max", "sym_min", "sym_not"}
"""Functions of a guard; the last ones are those of torch."""

NODES = (
    *(
        ast.Expression,
        ast.Call,
        ast.Constant,
        ast.Name,
        ast.Load,
        ast.keyword,
        ast.UnaryOp,
        ast.USub,
        ast.UAdd,
        ast.Not,
    ),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Div, ast.Mod, ast.BoolOp, ast.And, ast.Or),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Subscript, ast.Attribute),
)
"""Syntax of arithmetic; there are no powers, which could grow without end."""

ARGUMENTS = {
    *("as_none", "as_tensor", "as_tensors", "as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools"),
    *("as_string", "as_strings", "as_sym_int", "as_sym_ints", "as_sym_float", "as_sym_floats", "as_sym_bool"),
    *("as_sym_bools", "as_scalar_type", "as_memory_format", "as_layout", "as_device", "as_optional_tensors"),
    *("as_optional_tensor", "as_name", "as_expr", "as_complex"),
}
"""Kinds of values in a program; others name functions, objects or inner programs."""

STRUCTURES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}

PLAIN_NOTES = {"stack_trace", "nn_module_stack", "torch_fn"}
"""Notes at an operator that torch does not evaluate."""

LONGEST = 20_000
"""Most characters of an expression."""


def check_arithmetic(path: Path, program: dict[str, Any]) -> None:
    """Check a program.

    Raises:
        WeightsError: it could do something else than compute.
        KeyError, TypeError, ValueError: it is no program.
    """
    module = program["graph_module"]
    if module.get("treespec_namedtuple_fields"):
        raise refused(path, "its program defines classes")
    for node in module["graph"]["nodes"]:
        _check_target(path, str(node["target"]))
        if notes := node.get("metadata", {}).keys() - PLAIN_NOTES:
            raise refused(path, f"its program has notes that torch evaluates ({min(notes)})")
    for name, value in _fields(program):
        if name.startswith("as_") and name not in ARGUMENTS:
            raise refused(path, f"its program has a value of the kind {name}, which could run code")
        if name == "as_ints" and math.prod(abs(int(size)) for size in value if size) > MOST_VALUES:
            raise refused(path, f"its program makes a tensor of {value}, more than memory can hold")
        if name in ("in_spec", "out_spec") and value:
            _check_structure(path, json.loads(value))
        if name == "expr_str":
            _check_expression(path, value, CALLS)
    for name in program["range_constraints"]:
        _check_expression(path, name, CALLS)
    for guard in program.get("guards_code") or ():
        _check_expression(path, guard, GUARD_CALLS)


def _check_target(path: Path, target: str) -> None:
    if ARITHMETIC.fullmatch(target):
        return
    found = ATEN.fullmatch(target)
    if found and found[1] not in FILES and (USED_INNER.fullmatch(found[1]) or not INNER.fullmatch(found[1])):
        operator = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
        # torch.ops.aten also has functions of TorchScript, which save files or change settings; no dispatcher has them
        if isinstance(operator, torch._ops.OpOverload) and torch._C._dispatch_has_kernel(operator.name()):
            return
    raise refused(path, f"its program calls {target[:80]!r}, which is no operator of torch that only computes")


def _fields(content: Any) -> Iterator[tuple[str, Any]]:
    """All fields of a JSON text, at any depth."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_structure(path: Path, spec: Any) -> None:
    for name, value in _fields(spec):
        if name == "type" and value not in STRUCTURES:
            raise refused(path, f"its program names the class {str(value)[:80]!r} for its inputs or outputs")


def _check_expression(path: Path, text: Any, calls: set[str]) -> None:
    """Check that an expression over sizes is arithmetic; a guard names its inputs as `L['image'].size()[0]`."""
    try:
        if not isinstance(text, str) or len(text) > LONGEST:
            raise ValueError
        usable = all(_is_arithmetic(node, calls) for node in ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        usable = False
    if not usable:
        raise refused(path, f"its program has the expression {str(text)[:80]!r}, which is not arithmetic over sizes")


def _is_arithmetic(node: ast.AST, calls: set[str]) -> bool:
    if isinstance(node, ast.Call):
        function = node.func
        return (isinstance(function, ast.Name) and function.id in calls) or (
            isinstance(function, ast.Attribute) and (function.attr != "size" or not (node.args or node.keywords))
        )
    if isinstance(node, ast.Attribute):
        of_torch = isinstance(node.value, ast.Name) and node.value.id == "torch" and node.attr in calls
        return of_torch or (node.attr == "size" and isinstance(node.value, ast.Subscript))
    if isinstance(node, ast.Name):
        return node.id in calls or node.id in ("L", "torch") or re.fullmatch(r"[su]\d+", node.id) is not None
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) or (
            isinstance(node.value, str) and re.fullmatch(r"\w{1,64}", node.value) is not None
        )
    return isinstance(node, NODES)

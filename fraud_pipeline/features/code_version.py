"""A hash of the code that decides a value: everything that given functions reach, and nothing else.

Belongs here: which code is reached, and which of it can change a value. Must not be here: the choice of functions.

Comments, docstrings, annotations, formatting and unreached code change no value and no hash. The hash is cautious: a
renamed variable changes it. To see whether values changed, compare values (`proof.py`).
"""

import ast
import hashlib
import inspect
import re
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

_PACKAGE: Final = __name__.partition(".")[0]


# Python 3.11 fails where two threads parse at once ("AST constructor recursion depth mismatch").
_PARSING: Final = threading.Lock()


def code_hash(*functions: Callable[..., Any]) -> str:
    """SHA-256 of the source of these functions, and of all functions, classes and constants of this package that they
    reach.

    Raises TypeError for a constant of a type that has no stable text.
    """
    texts: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [(function.__qualname__, function) for function in functions]
    while waiting:
        name, value = waiting.pop()
        if name in texts:
            continue
        source = _python(value)
        if not _is_ours(source):
            texts[name] = _constant_text(name, value)
            continue
        with _PARSING:
            tree = _without_words(ast.parse(textwrap.dedent(inspect.getsource(source))))
        texts[name] = ast.unparse(tree)
        waiting += _references(tree, inspect.getmodule(source))
    return hashlib.sha256("\n".join(f"{name}: {text}" for name, text in sorted(texts.items())).encode()).hexdigest()


@cache
def package_hash(*names: str) -> str:
    """SHA-256 of the source of packages or modules of ours, such as `ingest` or `modeling.dataset`."""
    root = Path(__file__).parents[1]
    paths = [root.joinpath(*name.split(".")) for name in names]
    files = sorted(
        file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")])
    )
    texts = {str(file.relative_to(root)): ast.unparse(_without_words(ast.parse(file.read_text()))) for file in files}
    return hashlib.sha256("\n".join(f"{name}: {text}" for name, text in texts.items()).encode()).hexdigest()


def _python(value: Any) -> Any:
    """The Python function behind a compiled one."""
    return getattr(value, "py_func", value)


def _is_ours(value: Any) -> bool:
    is_code = inspect.isfunction(value) or inspect.isclass(value)
    return is_code and value.__module__.partition(".")[0] == _PACKAGE


def _references(tree: ast.AST, module: ModuleType | None) -> Iterator[tuple[str, Any]]:
    """The names that the code uses from its module and from other modules of the package, with their values."""
    names = vars(module) if module else {}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                owner = names.get(name)
                if isinstance(owner, ModuleType) and owner.__name__.partition(".")[0] == _PACKAGE:
                    yield f"{owner.__name__}.{attribute}", getattr(owner, attribute)
            case ast.Name(id=name) if name in names:
                value = names[name]
                # A module of the package is not hashed as a whole; its used attributes are.
                if not (isinstance(value, ModuleType) and value.__name__.partition(".")[0] == _PACKAGE):
                    yield f"{module.__name__ if module else ''}.{name}", value


def _constant_text(name: str, value: Any) -> str:
    """A text that is the same in every process."""
    match value:
        case None | bool() | int() | float() | str() | bytes() | timedelta() | timezone() | datetime():
            text = repr(value)
        case re.Pattern():
            text = f"pattern {value.pattern!r} {value.flags}"
        case ModuleType():
            text = f"module {value.__name__}"
        case np.ndarray() | np.generic():
            text = f"{value.dtype.str} {value.shape} {value.tobytes().hex()}"
        case frozenset() | set():
            text = f"set {sorted(_constant_text(name, item) for item in value)}"
        case tuple() | list():
            text = f"{[_constant_text(name, item) for item in value]}"
        case Mapping():
            text = f"{[(_constant_text(name, key), _constant_text(name, item)) for key, item in value.items()]}"
        case _ if callable(value) and hasattr(value, "__qualname__"):
            text = f"{value.__module__}.{value.__qualname__}"
        case _:
            kind = type(value).__name__
            raise TypeError(f"{name} is a {kind}, which has no stable text: use numbers, texts or tuples of them")
    return text


def _without_words(tree: ast.Module) -> ast.Module:
    bare: ast.Module = ast.fix_missing_locations(_Words().visit(tree))
    return bare


class _Words(ast.NodeTransformer):
    """Removes docstrings and annotations."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # The name of a field stays, because it is part of the class.
        plain = ast.Assign([node.target], node.value) if node.value else ast.Expr(node.target)
        return self.generic_visit(plain)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

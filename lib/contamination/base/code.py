"""Hashes of code that see what it does and not how it is written: of files, and more strictly of functions.

The hash of a file is that of its syntax tree without comments and docstrings; of a notebook that of its code cells.
That of functions is of what they compute: annotations, error messages, the names of a function, its arguments and its
variables, and the module that it lies in leave it as it is. A number, an operation, a key, a default, the value of a
constant, and which function of another library is called change it.
"""

import ast
import builtins
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

OWN = __name__.partition(".")[0]  # this package, whose names may change
PLAIN = (bool, int, float, complex, str, bytes, type(None), tuple, list, dict, set, frozenset)


def source_of(file: Path) -> str:
    """The code of a module, or of all code cells of a notebook."""
    text = file.read_text()
    if file.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def hash_tree(tree: ast.AST) -> str:
    """The hash of a file's syntax tree, 16 hexadecimal digits. Takes the docstrings out of the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = _without_docstring(node.body)
    return _hashed(_spelled(tree))


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Also without what stands below the fields of a class to say what they mean."""
    kept = [node for node in body if not _is_text(node)]
    return kept or [ast.Pass()]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def hash_functions(*functions: Callable) -> str:
    """A hash of what these functions compute, 16 hexadecimal digits.

    A function of this package that they call counts as one place in the list, or where it is not in it as "own": name
    all whose code matters.
    """
    trees = (_spelled(_Canonical(function, functions).tree()) for function in functions)
    return _hashed("\n".join(trees))


class _Canonical(ast.NodeTransformer):
    """One function's syntax tree with every name replaced by what it stands for."""

    def __init__(self, function: Callable, listed: tuple[Callable, ...]):
        self.listed = listed
        self.definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        self.globals = {**vars(builtins), **function.__globals__}
        self.imported: dict[str, str] = {}  # local name of an import within the function: what it is
        self.numbers: dict[str, int] = {}  # local names, by first appearance
        for node in ast.walk(self.definition):
            self._note_names(node)

    def tree(self) -> ast.AST:
        return self.visit(self.definition)

    def _note_names(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imported[alias.asname or alias.name.partition(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                of_package = (node.module or "").partition(".")[0] == OWN
                self.imported[alias.asname or alias.name] = OWN if of_package else f"{node.module}.{alias.name}"
        elif isinstance(node, ast.arg):
            self._number(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._number(node.id)
        elif isinstance(node, ast.FunctionDef | ast.Lambda) and node is not self.definition:
            self._number(getattr(node, "name", ""))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            self._number(node.name)

    def _number(self, name: str) -> None:
        self.numbers.setdefault(name, len(self.numbers))

    def _meaning(self, name: str) -> str:
        """What a name stands for: a local by its number, a constant by its value, another library's by its address."""
        if name in self.numbers:
            return f"local {self.numbers[name]}"
        if name in self.imported:
            return self.imported[name]
        return _described(self.globals[name], self.listed)

    def visit_FunctionDef(self, node):
        node.body = _without_docstring(node.body)
        node.name, node.returns = ("" if node is self.definition else self._meaning(node.name)), None
        return self.generic_visit(node)

    def visit_arg(self, node):
        return ast.arg(arg=self._meaning(node.arg))

    def visit_AnnAssign(self, node):
        return self.visit(ast.Assign(targets=[node.target], value=node.value)) if node.value else None

    def visit_ExceptHandler(self, node):
        node.name = node.name and self._meaning(node.name)
        return self.generic_visit(node)

    def visit_Import(self, node):
        return ast.Pass()  # where an import stands computes nothing; what it brings stands where it is used

    visit_ImportFrom = visit_Import

    def visit_Raise(self, node):
        return ast.Raise()  # an error message is no part of a result

    def visit_Name(self, node):
        return ast.Name(id=self._meaning(node.id), ctx=node.ctx)

    def visit_Attribute(self, node):
        """`module.function` stands for the function wherever it lies, another library's for its address."""
        if isinstance(node.value, ast.Name) and node.value.id not in {*self.numbers, *self.imported}:
            owner = self.globals[node.value.id]
            if isinstance(owner, ModuleType) and _is_own(owner):
                return ast.Name(id=_described(getattr(owner, node.attr), self.listed), ctx=node.ctx)
        return self.generic_visit(node)

    def visit_Call(self, node):
        """Arguments of this package's own functions count by their place, whether they are given by it or by name."""
        called = self._own_function(node.func)
        if called:
            places = list(inspect.signature(called).parameters)
            for keyword in node.keywords:
                keyword.arg = keyword.arg and str(places.index(keyword.arg))
            if not any(isinstance(value, ast.Starred) for value in node.args):
                node.keywords += [ast.keyword(arg=str(place), value=value) for place, value in enumerate(node.args)]
                node.args = []
            node.keywords.sort(key=lambda keyword: keyword.arg or "")
        return self.generic_visit(node)

    def _own_function(self, node: ast.AST):
        """The function of this package that an expression names; None for any other."""
        if isinstance(node, ast.Name) and node.id not in {*self.numbers, *self.imported}:
            found = self.globals[node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = getattr(self.globals.get(node.value.id), node.attr, None)
        else:
            found = None
        return found if inspect.isfunction(found) and _is_own(found) else None


def _is_own(thing) -> bool:
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None) or ""
    return name.partition(".")[0] == OWN


def _described(thing, listed: tuple[Callable, ...]) -> str:
    """What a global name stands for, in words that a move or a renaming does not change."""
    if callable(thing) and thing in listed:
        return f"listed {listed.index(thing)}"
    if isinstance(thing, PLAIN):
        return repr(sorted(thing, key=repr) if isinstance(thing, set | frozenset) else thing)
    if isinstance(thing, ModuleType):
        return thing.__name__
    if _is_own(thing):
        return "own"
    return f"{thing.__module__}.{thing.__qualname__}"


def _spelled(node) -> str:
    """A syntax tree as text, without what is empty: so it is the same under versions of Python that add fields."""
    if isinstance(node, list):
        return f"[{' '.join(_spelled(item) for item in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    fields = fields if not isinstance(node, ast.Constant) else [("value", node.value)]
    return f"{type(node).__name__}({' '.join(f'{name}={_spelled(value)}' for name, value in fields)})"

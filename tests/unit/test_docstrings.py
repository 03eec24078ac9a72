"""What others can call says what it takes and gives: Parameters lists every argument, Returns or Yields the result.

Sources are parsed and not imported, so this costs a second and needs no extras.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = ("service", "clients", "simulator")
Function = ast.FunctionDef | ast.AsyncFunctionDef
# The arguments of a command say in their own help what they are; pydantic calls its hooks, nobody else does.
HELP_OF_THEIR_OWN = "latticewatch.cli"
HOOKS = {"settings_customise_sources"}
RESULT = re.compile(r"^(Returns|Yields)\n-+\n", re.MULTILINE)
SETTER = re.compile(r"\.setter$")
# Numba gives the first argument of an intrinsic.
GIVEN = {"self", "cls", "typingctx"}


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def modules(project: Path) -> dict[str, ast.Module]:
    return {
        module_of(path, project / root): ast.parse(path.read_text("utf-8"))
        for root in ROOTS
        for path in sorted((project / root).rglob("*.py"))
    }


def exported(tree: ast.Module) -> set[str]:
    """Names in `__all__`; where there is none, those defined here without an underscore."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    defined = {node.name for node in tree.body if isinstance(node, Function | ast.ClassDef)}
    return {name for name in defined if not name.startswith("_")}


def definition(
    modules: dict[str, ast.Module], module: str, name: str
) -> tuple[str, Function | ast.ClassDef] | None:
    """Where an exported name is defined, through the imports of the packages; None for a constant."""
    for node in modules[module].body:
        if isinstance(node, Function | ast.ClassDef) and node.name == name:
            return module, node
    for node in ast.walk(modules[module]):
        if isinstance(node, ast.ImportFrom) and node.module in modules and node.module != module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(modules, node.module, alias.name)
    return None


def arguments(node: Function) -> list[str]:
    signature = node.args
    named = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
    names = [one.arg for one in (*named, signature.vararg, signature.kwarg) if one is not None]
    return [name for name in names if name not in GIVEN and not name.startswith("_")]


def unlisted(names: list[str], text: str) -> list[str]:
    """Those of some arguments that a docstring does not list under Parameters."""
    section = text.partition("Parameters\n----------\n")[2]
    section = re.split(r"\n\S[^\n]*\n-{4,}\n", section)[0]
    lines = re.findall(r"^([\w*][^:\n]*)", section, re.MULTILINE)
    listed = {name.strip(" *") for line in lines for name in line.split(",")}
    return [name for name in names if name not in listed]


def gives_something(node: Function) -> bool:
    """Whether there is a result to document; a context manager that gives nothing has none."""
    if any(ast.unparse(one).endswith("intrinsic") for one in node.decorator_list):
        return False  # what it returns is for numba, not for the kernel that calls it
    if node.returns is not None:
        return ast.unparse(node.returns) not in ("None", "Iterator[None]")
    return any(isinstance(one, ast.Return) and one.value is not None for one in ast.walk(node))


def raises_itself(node: ast.AST) -> bool:
    """Whether a function raises an error in its own body that it does not catch there."""
    caught = set(node.body) if isinstance(node, ast.Try) and node.handlers else set()
    for one in ast.iter_child_nodes(node):
        if one in caught or isinstance(one, Function | ast.ClassDef | ast.Lambda):
            continue
        # an AssertionError says what cannot happen
        if (
            isinstance(one, ast.Raise)
            and one.exc is not None
            and not ast.unparse(one.exc).startswith("Assert")
        ):
            return True
        if raises_itself(one):
            return True
    return False


def callables(module: str, node: Function | ast.ClassDef) -> Iterator[tuple[str, Function, str]]:
    """What can be called of an exported name: its own name, itself, and what documents it."""
    name, text = f"{module}.{node.name}", ast.get_docstring(node) or ""
    if isinstance(node, Function):
        yield name, node, text
        return
    for method in node.body:
        if isinstance(method, Function):
            own = ast.get_docstring(method) or ""
            if method.name == "__init__":
                yield name, method, f"{text}\n\n{own}"
            elif any(SETTER.search(ast.unparse(one)) for one in method.decorator_list):
                continue  # its property tells
            elif not method.name.startswith("_") and method.name not in HOOKS:
                yield f"{name}.{method.name}", method, own


def public_callables(modules: dict[str, ast.Module]) -> dict[str, tuple[Function, str]]:
    found = {}
    for module, tree in modules.items():
        if "._" in module or module.startswith(HELP_OF_THEIR_OWN):
            continue
        for name in exported(tree):
            if (where := definition(modules, module, name)) is not None:
                found |= {full: (node, text) for full, node, text in callables(*where)}
    return found


def test_every_public_callable_lists_its_arguments(modules: dict[str, ast.Module]) -> None:
    found = public_callables(modules)
    assert len(found) > 300
    lacking = {name: unlisted(arguments(node), text) for name, (node, text) in found.items()}
    assert {name: names for name, names in sorted(lacking.items()) if names} == {}


def test_every_public_callable_that_gives_something_says_what(modules: dict[str, ast.Module]) -> None:
    found = public_callables(modules)
    given = {name: text for name, (node, text) in found.items() if arguments(node) and gives_something(node)}
    assert len(given) > 200
    assert sorted(name for name, text in given.items() if not RESULT.search(text)) == []


def test_every_public_callable_that_raises_says_what(modules: dict[str, ast.Module]) -> None:
    found = public_callables(modules)
    raising = {name: text for name, (node, text) in found.items() if raises_itself(node)}
    assert len(raising) > 50
    assert sorted(name for name, text in raising.items() if "Raises\n------\n" not in text) == []


def test_a_public_callable_whose_argument_is_not_listed_is_found() -> None:
    package = ast.parse("from house._room import Room\n__all__ = ['Room']")
    room = ast.parse(
        '''
class Room:
    """A room.

    Parameters
    ----------
    height : float
    """

    def __init__(self, height, width): ...

    def enter(self, door):
        """Go in.

        Parameters
        ----------
        door : str
            Which one.
        """

    def leave(self, door):
        """Go out.

        Returns
        -------
        door : str
        """

    def _swept(self, broom): ...
'''
    )
    found = public_callables({"house": package, "house._room": room})
    assert {name: unlisted(arguments(node), text) for name, (node, text) in found.items()} == {
        "house._room.Room": ["width"],
        "house._room.Room.enter": [],
        "house._room.Room.leave": ["door"],
    }


def test_a_function_without_annotations_gives_what_it_returns() -> None:
    gives, ends = ast.parse("def gives(x):\n    return x\ndef ends(x):\n    return").body
    assert isinstance(gives, Function)
    assert isinstance(ends, Function)
    assert (gives_something(gives), gives_something(ends)) == (True, False)


def test_an_error_that_is_caught_at_once_is_not_raised() -> None:
    raises, catches = ast.parse(
        "def raises(x):\n    if x:\n        raise ValueError(x)\n"
        "def catches(x):\n    try:\n        raise ValueError(x)\n    except ValueError:\n        return None"
    ).body
    assert (raises_itself(raises), raises_itself(catches)) == (True, False)

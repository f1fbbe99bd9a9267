"""A hash of code changes with what the code computes, and with nothing else."""

import importlib.util
import sys
import textwrap

import pytest
from contamination.base.code import hash_functions

BEFORE = """
    import numpy as np
    from contamination.base import image_tables

    LIMIT = 3

    def helper(pixels, size: int = 2):
        return pixels[:size]

    def draw(pixels, settings, *, seed=0):
        '''SharedRandom.'''
        from PIL import Image

        if not settings:
            raise ValueError("give settings")
        kept = helper(pixels, size=settings["size"])
        parts = [np.rint(part * LIMIT) for part in kept if part > seed]
        found = image_tables.encode(Image.fromarray(np.asarray(parts)))
        return found
"""


def hashed(folder, source: str, name: str, function: str = "draw", helper: str = "helper") -> str:
    """Of the two functions of a module of that name, which passes for one of the package."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location(f"contamination.{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        return hash_functions(getattr(module, function), getattr(module, helper))
    finally:
        del sys.modules[spec.name]


@pytest.mark.parametrize(
    "changes",
    [
        [("'''SharedRandom.'''", "'''SharedRandom some images.'''  # a comment")],
        [("give settings", "settings are missing")],
        [("found", "encoded"), ("kept", "chosen"), ("parts", "rows"), ("pixels", "image")],
        [("size: int = 2", "size = 2"), ("size: int", "size: float")],
        [("import numpy as np", "import numpy"), ("np.", "numpy.")],
        [("import image_tables", "import image_tables as tables"), ("image_tables.encode", "tables.encode")],
        [("size: int", "count: int"), ("[:size]", "[:count]"), ("size=", "count=")],
        [("helper(pixels, size=settings", "helper(pixels, settings")],
        [("from PIL import Image", "from PIL import Image as Picture"), ("Image.f", "Picture.f")],
        [("LIMIT", "MOST")],
    ],
    ids=[
        "docstring",
        "message",
        "variables",
        "annotation",
        "alias",
        "import",
        "argument",
        "place",
        "inner import",
        "constant",
    ],
)
def test_how_code_is_written_leaves_its_hash_as_it_is(tmp_path, changes):
    after = BEFORE
    for old, new in changes:
        after = after.replace(old, new)
    assert after != BEFORE
    assert hashed(tmp_path, after, "another") == hashed(tmp_path, BEFORE, "one")


def test_a_function_renamed_and_moved_has_the_same_hash(tmp_path):
    after = BEFORE.replace("def draw", "def generate").replace("helper", "first_rows")
    moved = hashed(tmp_path, after, "elsewhere", "generate", "first_rows")
    assert moved == hashed(tmp_path, BEFORE, "one")


@pytest.mark.parametrize(
    "old, new",
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("part * LIMIT", "part + LIMIT"),
        ("part * LIMIT", "LIMIT * part"),
        ("seed=0", "seed=1"),
        ('"size"', '"height"'),
        ("np.rint", "np.floor"),
        ("pixels[:size]", "pixels[size:]"),
        ("helper(pixels, size=settings", "(lambda pixels, size: pixels)(pixels, size=settings"),
        ("if not settings", "if settings"),
        ("helper(pixels, size=s", "helper(settings, size=s"),
        ("return found", "return parts"),
    ],
)
def test_what_code_computes_changes_its_hash(tmp_path, old, new):
    assert old in BEFORE
    assert hashed(tmp_path, BEFORE.replace(old, new), "another") != hashed(tmp_path, BEFORE, "one")


def test_two_arguments_that_change_places_change_the_hash(tmp_path):
    after = BEFORE.replace("def draw(pixels, settings,", "def draw(settings, pixels,")
    assert hashed(tmp_path, after, "another") != hashed(tmp_path, BEFORE, "one")

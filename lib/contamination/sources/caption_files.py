"""Captions of a folder tree in a `metadata.jsonl` or `metadata.csv`, as Hugging Face, Windows and Excel write them.

A byte order mark, other line ends, empty lines, `./` and backslashes in names, and letters with accents in one sign or
two change nothing: a name means the file that is there.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

NAMES = ("metadata.jsonl", "metadata.csv")
COLUMNS = ("file_name", "text")


def file_of(tree: Path) -> Path | None:
    """The file of captions of a tree; None where there is none. Raises ValueError where there are two."""
    found = [tree / name for name in NAMES if (tree / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{tree} has captions in {' and '.join(NAMES)}: keep one of them")
    return found[0] if found else None


def read(tree: Path) -> dict[str, list[str]]:
    """The captions, one or more, of each file of a tree that has a file of them; by path below the tree.

    Raises ValueError in one line that names file and line.
    """
    file = file_of(tree)
    assert file, "asked only where there is one"
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text: save it as such") from None
    found: dict[str, list[str]] = {}
    for name, caption in (_of_json if file.suffix == ".jsonl" else _of_csv)(file, text):
        found.setdefault(_as_there(tree, name), []).append(caption)
    return found


def _of_json(file: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):  # captions may hold other breaks
        if not line.strip():
            continue
        try:
            name, caption = (json.loads(line)[key] for key in COLUMNS)
        except (ValueError, KeyError, TypeError):
            name = caption = None
        if not isinstance(name, str) or not isinstance(caption, str):
            raise ValueError(f'{file}, line {number}: expected {{"file_name": "...", "text": "..."}}')
        yield name, caption


def _of_csv(file: Path, text: str) -> Iterator[tuple[str, str]]:
    first = text.partition("\n")[0].strip()
    mark = next((mark for mark in ",;\t" if mark in first), ",")  # Excel writes the one of its country
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise ValueError(f"{file}, line 1: expected the columns {' and '.join(COLUMNS)}, found {first!r}")
    for row in reader:
        name, caption = (row[key] for key in COLUMNS)
        if not name or caption is None or None in row:
            raise ValueError(f"{file}, line {reader.line_num}: expected as many values as columns, {first!r}")
        yield name, caption


def _as_there(tree: Path, name: str) -> str:
    """A name as the file is spelled that it means; the name itself where there is no such file."""
    name = str(PurePosixPath(name))  # without `./`
    if name.isascii() and "\\" not in name:
        return name
    return next((each for each in _spellings(name) if (tree / each).is_file()), name)


def _spellings(name: str) -> Iterable[str]:
    for each in (name, name.replace("\\", "/")):
        path = str(PurePosixPath(each))
        yield from (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))

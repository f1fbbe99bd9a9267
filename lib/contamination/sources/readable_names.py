"""What a class is called in a prompt, and what may go wrong with such names, found before any image is made.

Class folders called by WordNet id (`n01440764`, as in ImageNet) get the words that timm ships for its ImageNet lists
of 21,844 synsets. Of a synset's words the first is the class's one fixed name and all are its synonyms, Latin names
among them, as they stand there. The names that the paper's authors used are not published: they may differ. Other
folders are called as they are, underscores read as spaces. A names file has the last word on any class.
"""

import csv
import functools
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from contamination.base import plotting
from contamination.base.files import package_folder
from contamination.base.layout import project_root

# What else a digit may be called; the first word is its name.
DIGITS = {
    "zero": ("zero", "nought", "0"),
    "one": ("one", "1"),
    "two": ("two", "2"),
    "three": ("three", "3"),
    "four": ("four", "4"),
    "five": ("five", "5"),
    "six": ("six", "6"),
    "seven": ("seven", "7"),
    "eight": ("eight", "8"),
    "nine": ("nine", "9"),
}
WORDNET_ID = re.compile(r"n\d{8}")

# WordNet numbers its nouns sort by sort, so that an id tells what sort of thing it is. The first id of each sort, read
# off the words: the last animal that timm ships is n02665250, hogchoker, the first artifact n02665985, aba. Fruits are
# food and plant alike.
SORTS = {
    "n00000000": "activity",
    "n01300000": "animal",
    "n02665500": "artifact",
    "n04650000": "idea",
    "n07500000": "food or plant",
    "n07942000": "group or place",
    "n09482000": "person",
    "n11400000": "event",
    "n11530000": "food or plant",
    "n13250000": "form or matter",
}

LETTERS_SHOWN = 20
LONGEST_NAME = 100  # characters; the longest of the 40,744 words that timm ships has 47

# CLIP's text encoder reads 77 tokens, two of which mark start and end. Counted with its tokenizer, the 21,844
# definitions that timm ships have 1.18 tokens per word, so 75 tokens are about 63 words; of texts of 60 words, made by
# joining definitions, one in six is too long already, of texts of 65 words more than half.
LONGEST_CAPTION = 60  # words

NAME_IT = "give it another name in a names file"


class ClassName(NamedTuple):
    """name: the fixed one. synonyms: all words, the name first. definition: empty where none is known."""

    name: str
    synonyms: tuple[str, ...]
    definition: str


class Synset(NamedTuple):
    words: tuple[str, ...]
    definition: str


def readable(names: list[str], file: str = "") -> dict[str, ClassName]:
    """What each class folder is called. A class's words do not depend on which other classes there are.

    names: class folders. file: a names file (see `load`), or "" for none. Imports neither torch nor timm.
    """
    own = _own(file)
    return {name: _describe(name, own.get(name) or _words(name)) for name in names}


def unshown(names: list[str], file: str = "") -> list[str]:
    """A line that names the letters of class names that no figure will show; none where all can be shown.

    names, file: as of `readable`.
    """
    letters = plotting.without_glyph([*names, *(found.name for found in readable(names, file).values())])
    if not letters:
        return []
    shown = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in letters[:LETTERS_SHOWN])
    more = f" and {len(letters) - LETTERS_SHOWN} more" if len(letters) > LETTERS_SHOWN else ""
    return [
        f"no installed font has {shown}{more} of the class names: figures show boxes instead, tables do not; install "
        "Noto Sans CJK or another font of their script"
    ]


def _describe(folder: str, words: tuple[str, ...]) -> ClassName:
    return ClassName(words[0], words, _synsets()[folder].definition if _in_wordnet(folder) else "")


def _words(folder: str) -> tuple[str, ...]:
    if _in_wordnet(folder):
        return _synsets()[folder].words
    return DIGITS.get(folder) or (folder.replace("_", " "),)


def _in_wordnet(folder: str) -> bool:
    return bool(WORDNET_ID.fullmatch(folder)) and folder in _synsets()  # the files are read for such names alone


@functools.cache
def _synsets() -> dict[str, Synset]:
    """The synsets that timm ships, by WordNet id. Read from its folder: to import timm is to import torch."""
    folder = package_folder("timm") / "data" / "_info"
    words, definitions = (_columns(folder / f"imagenet_synset_to_{what}.txt") for what in ("lemma", "definition"))
    return {name: Synset(tuple(words[name].split(", ")), definitions[name]) for name in words}


def _columns(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())


# A user's own names


def _own(file: str) -> dict[str, tuple[str, ...]]:
    return load(file) if file else {}


def load(file: str) -> dict[str, tuple[str, ...]]:
    """The words of each class folder in a names file, the name first.

    file: path below the project root, or absolute. A .csv has the columns folder, name and, if wanted, synonyms with
    semicolons between them; a .json is an object {folder: [name, synonym, ...]}. Raises FileNotFoundError or
    ValueError in one line that says where in the file.
    """
    path = project_root() / file
    readers = {".csv": _rows_of_csv, ".json": _rows_of_json}
    if path.suffix not in readers:
        raise ValueError(f"names file {path}: give a .csv or a .json")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"names file {path} is missing") from None
    except UnicodeDecodeError:
        raise ValueError(f"names file {path} is not UTF-8 text: save it as such") from None
    return _checked(path, readers[path.suffix](path, text))


def _rows_of_csv(path: Path, text: str) -> Iterator[tuple[str, str, list[str]]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    if reader.fieldnames not in (["folder", "name"], ["folder", "name", "synonyms"]):
        raise ValueError(
            f"names file {path}, line 1: expected the columns folder,name or folder,name,synonyms with "
            f"commas between them, found {','.join(reader.fieldnames or ['nothing'])!r}"
        )
    for row in reader:
        where = f"line {reader.line_num}"
        if None in row:
            raise ValueError(f"names file {path}, {where}: too many columns: separate synonyms by semicolons")
        synonyms = [word for word in (row.get("synonyms") or "").split(";") if word.strip()]
        yield where, row["folder"].strip(), [row["name"] or "", *synonyms]


def _rows_of_json(path: Path, text: str) -> Iterator[tuple[str, str, list[str]]]:
    try:
        content = json.loads(text, object_pairs_hook=tuple)  # a dict would hide a folder that stands twice
    except ValueError as error:
        raise ValueError(f"names file {path} is not valid JSON: {error}") from None
    if not isinstance(content, tuple):
        raise ValueError(f"names file {path}: expected an object {{folder: [name, synonym, ...]}}")
    for folder, words in content:
        yield f"folder {folder!r}", folder, words


def _checked(path: Path, rows: Iterable[tuple[str, str, list[str]]]) -> dict[str, tuple[str, ...]]:
    found = {}
    for where, folder, words in rows:
        proper = isinstance(words, list) and all(isinstance(word, str) and word.strip() for word in words)
        if not folder or not words or not proper:
            raise ValueError(f"names file {path}, {where}: expected a folder, a name, and synonyms if there are any")
        if folder in found:
            raise ValueError(f"names file {path}, {where}: the folder {folder} stands here twice")
        found[folder] = tuple(dict.fromkeys(word.strip() for word in words))
    return found


# The audit


def audit(names: list[str], file: str = "") -> list[dict]:
    """What may go wrong with the names of classes: no prompt says which of two classes it means, or any at all.

    names: class folders. file: a names file, or "". Each finding has kind, name, classes (folders), reason, suggestion
    ("" where there is none). Kinds, the worst first:
    no name -- a WordNet id that is not known, a name without letters or an empty one: the generator cannot know it
    unprintable name, long name -- a word with control characters, or of more than `LONGEST_NAME` characters
    no such class -- the names file has folders that are not among the classes: one finding for all
    same name -- of several classes; capitals and plural aside, as text encoders hardly tell these apart
    another's name -- a class has as synonym what is another class's name (style diverse alone)
    shared synonym -- several classes have it and none is called so (style diverse alone)
    other sort of thing -- a synset beyond the classes has the name, too, and is of another sort: mouse, the animal
    other meaning -- the same within one sort: most are close relatives; in both, names with most meanings come first
    The synsets are those that timm ships, what ImageNet has photographs of, without frequencies: which meaning is
    commoner cannot be told, and one that is not among them (kite, the toy) is missed.
    """
    classes = readable(names, file)
    owners = _owners(classes)
    return [
        *(finding for folder, found in classes.items() for finding in _unusable(folder, found)),
        *_strangers([folder for folder in _own(file) if folder not in classes]),
        *_shared(classes, owners),
        *_ambiguous(classes, owners),
    ]


def _finding(kind: str, name: str, classes: list[str], reason: str, suggestion: str = "") -> dict:
    return {"kind": kind, "name": name, "classes": classes, "reason": reason, "suggestion": suggestion}


def _unusable(folder: str, found: ClassName) -> Iterator[dict]:
    if WORDNET_ID.fullmatch(found.name):
        yield _finding("no name", found.name, [folder], "timm does not know this WordNet id", NAME_IT)
    elif not any(letter.isalpha() for letter in found.name):
        yield _finding("no name", found.name, [folder], "the name has no letter in it", NAME_IT)
    for word in found.synonyms:
        if not word.isprintable():
            yield _finding("unprintable name", word, [folder], "it has characters that do not print", NAME_IT)
        if len(word) > LONGEST_NAME:
            yield _finding("long name", word, [folder], f"it has {len(word)} characters", NAME_IT)


def _strangers(folders: list[str]) -> list[dict]:
    reason = f"the names file has {len(folders)} folders that the data have not"
    return [_finding("no such class", folders[0], folders, reason)] if folders else []


def _key(word: str) -> str:
    """The same for words that differ in capitals, hyphens or plural alone: Cardigan, cardigan; sunglass, sunglasses."""
    return re.sub(r"(?<=ss)es$|(?<=[^s])s$", "", word.casefold().replace("-", " "))


def _owners(classes: dict[str, ClassName]) -> dict[str, list[str]]:
    """The classes that have each word among their synonyms."""
    owners = defaultdict(list)
    for folder, found in classes.items():
        for key in dict.fromkeys(_key(word) for word in found.synonyms):
            owners[key].append(folder)
    return owners


@functools.cache
def _meanings() -> dict[str, list[str]]:
    """The synsets that have each word."""
    return _owners({name: ClassName(words[0], words, definition) for name, (words, definition) in _synsets().items()})


def _others(folder: str, word: str) -> list[str]:
    """The synsets that a word may also mean. Where the class is no synset, one meaning is its own."""
    found = _meanings().get(_key(word), [])
    if WORDNET_ID.fullmatch(folder):
        return [name for name in found if name != folder]
    return found if len(found) > 1 else []


def _shared(classes: dict[str, ClassName], owners: dict[str, list[str]]) -> list[dict]:
    """Words of several classes, by kind."""
    found = defaultdict(list)
    for key, folders in owners.items():
        called = [folder for folder in folders if _key(classes[folder].name) == key]
        kind = "same name" if len(called) > 1 else "another's name" if called else "shared synonym"
        if len(folders) > 1:
            found[kind].append(_shared_word(kind, key, folders, called, classes, owners))
    return [*found["same name"], *found["another's name"], *found["shared synonym"]]


def _shared_word(kind: str, key: str, folders: list, called: list, classes: dict, owners: dict) -> dict:
    words = [word for folder in called or folders for word in classes[folder].synonyms if _key(word) == key]
    reason = "; ".join(f"{folder}: {_in_words(classes[folder])}" for folder in folders)
    if kind == "same name":
        better = {folder: _unique(folder, classes[folder], owners) for folder in called}
        suggestion = "; ".join(f"{folder}: {word}" for folder, word in better.items() if word) or NAME_IT
    else:
        left_out = [folder for folder in folders if folder not in called]
        suggestion = f"leave it out of the synonyms of {', '.join(left_out)}"
    return _finding(kind, " / ".join(dict.fromkeys(words)), folders, reason, suggestion)


def _in_words(found: ClassName) -> str:
    return f"{found.name} ({found.definition})" if found.definition else found.name


def _unique(folder: str, found: ClassName, owners: dict[str, list[str]]) -> str:
    """The first synonym that no other class and no other synset has."""
    free = (word for word in found.synonyms[1:] if len(owners[_key(word)]) == 1 and not _others(folder, word))
    return next(free, "")


def _ambiguous(classes: dict[str, ClassName], owners: dict[str, list[str]]) -> list[dict]:
    """Names that synsets beyond the classes have, too; those of other classes are reported as shared."""
    others = {folder: _others(folder, found.name) for folder, found in classes.items()}
    beyond = {folder: [name for name in found if name not in classes] for folder, found in others.items()}
    most_first = sorted(filter(beyond.get, beyond), key=lambda folder: -len(beyond[folder]))
    found = [_other_meaning(folder, beyond[folder], classes[folder], owners) for folder in most_first]
    return sorted(found, key=lambda finding: finding["kind"] != "other sort of thing")


def _other_meaning(folder: str, others: list[str], found: ClassName, owners: dict[str, list[str]]) -> dict:
    sorts = {_sort(name) for name in [folder, *others] if WORDNET_ID.fullmatch(name)}
    kind = "other sort of thing" if len(sorts) > 1 else "other meaning"
    meanings = " / ".join(f"{_synsets()[name].definition} ({_sort(name)})" for name in others)
    return _finding(kind, found.name, [folder], f"{len(others)} synsets: {meanings}", _unique(folder, found, owners))


def _sort(name: str) -> str:
    return SORTS[max(start for start in SORTS if start <= name)]


def audit_captions(captions: list[str]) -> list[dict]:
    """What may go wrong with captions as prompts; findings as those of `audit`, with rows (numbers from 0) for classes.

    empty caption · long caption: of more than `LONGEST_CAPTION` words, an estimate of what a text encoder of 77 tokens
    still reads; the rest would be cut off · same caption: of several images, capitals and spaces aside.
    """
    rows = defaultdict(list)
    for row, caption in enumerate(captions):
        rows[" ".join(caption.casefold().split())].append(row)
    kinds = {"empty caption": _empty, "long caption": _too_long, "same caption": _repeated}
    return [
        {"kind": kind, "name": captions[found[0]], "rows": found, "reason": reason, "suggestion": ""}
        for kind, judge in kinds.items()
        for text, found in rows.items()
        if (reason := judge(text, found))
    ]


def _empty(text: str, rows: list[int]) -> str:
    return "" if text else f"{len(rows)} images have no words to be asked for"


def _too_long(text: str, rows: list[int]) -> str:
    words = len(text.split())
    return f"{words} words: a text encoder of 77 tokens would probably cut it off" if words > LONGEST_CAPTION else ""


def _repeated(text: str, rows: list[int]) -> str:
    return f"{len(rows)} images have it" if text and len(rows) > 1 else ""


# For people


def sentence(findings: list[dict], of: str) -> str:
    """How many findings of each kind there are. of: what was looked at, such as `1,000 class names`."""
    counts = Counter(finding["kind"] for finding in findings)
    found = ", ".join(f"{kind} ({count:,})" for kind, count in counts.items())
    return f"Of {of}, to be looked at before any image is made: {found or 'none'}."


def table(findings: list[dict]):
    """The findings as a DataFrame, one row each; of many classes or rows the first five are shown."""
    import pandas as pd

    shown = [{key: _shown(value) for key, value in finding.items()} for finding in findings]
    return pd.DataFrame(shown)


def _shown(value: str | list) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(str(each) for each in value[:5]) + (f" and {len(value) - 5} more" if len(value) > 5 else "")

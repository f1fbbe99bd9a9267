"""The tables of parameters/README.md are made from the sections of a parameter file, and looked for here.

`python tests/project/test_parameter_reference.py` writes them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from contamination.base.settings import Section, section_in
from contamination.study.study import Study

FILE = Path(__file__).parents[2] / "parameters/README.md"
HEAD = "| key | meaning | default |\n|---|---|---|\n"
OWNER = "train.classification"  # whose keys others refer to
SHORT = 70  # a meaning of no more characters is said again


def keys(section: type[Section] = Study, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key of a section and of those in it: name, meaning, default in words."""
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is Section or prefix == "grid.":  # what the grid names is the user's
            default = "required" if field.is_required() else spelled(field.get_default(call_default_factory=True))
            yield prefix + name, meaning(section, name), default
        else:
            yield from keys(inner, f"{prefix}{name}.")


def meaning(section: type[Section], name: str) -> str:
    """What stands below a field, where it is given another default below that of the section where it was first."""
    found = (
        each.model_fields[name].description for each in section.__mro__ if name in getattr(each, "model_fields", ())
    )
    return " ".join(next(filter(None, found)).split())


def spelled(default) -> str:
    if default is None:
        return "none"
    if isinstance(default, dict):
        default = {key: plain(value) for key, value in default.items()}
    words = str(default).lower() if isinstance(default, bool) else str(default).replace("'", "")
    return f"`{words}`" if words else '`""`'


def plain(value):
    return value.model_dump(exclude_none=True) if isinstance(value, Section) else value


def tables() -> dict[str, str]:
    """The rows of each table, by the first part of its keys; what is not in a section of its own has none."""
    rows, owned = {}, {key: words for key, words, _ in keys() if key.startswith(OWNER)}
    for key, words, default in keys():
        section, _, name = key.rpartition(".")
        if section not in ("", OWNER) and owned.get(f"{OWNER}.{name}") == words and len(words) > SHORT:
            words = f"as for `{OWNER}`"
        rows.setdefault(key.partition(".")[0] if section else "", []).append(f"| `{key}` | {words} | {default} |\n")
    return {section: "".join(lines) for section, lines in rows.items()}


def written() -> str:
    """The file with its tables made anew."""
    made = tables()

    def anew(found: re.Match) -> str:
        key = re.search(r"`([\w.]+)`", found[1])[1]
        return HEAD + made[key.partition(".")[0] if "." in key else ""]

    return re.sub(re.escape(HEAD) + r"((?:\|.*\n)+)", anew, FILE.read_text())


def test_every_key_has_its_meaning_and_default_in_the_readme_of_parameters():
    assert written() == FILE.read_text(), "run python tests/project/test_parameter_reference.py"


def test_no_section_lacks_a_table():
    text = FILE.read_text()
    assert all(rows in text for rows in tables().values())


if __name__ == "__main__":
    FILE.write_text(written())

"""YAML files that people write, read by the rules of YAML 1.2, without what gets lost without a word.

PyYAML reads by the rules of YAML 1.1, by which `1e-1` is text, `010` is 8 and `no` is false, and where a key is given
twice it takes the last. Its own machinery reads here by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2,
10.3.2).
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
WAS = {"bool": "true or false", "int": "a number", "float": "a number"}  # to many readers, by YAML 1.1


class _Loader(yaml.SafeLoader):
    """The core schema; a key given twice, a key without a value and values with two meanings are errors."""

    yaml_implicit_resolvers: ClassVar[dict] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        first: dict[Any, int] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue  # `<<`: what it brings along may be given otherwise
            name = self.construct_object(key, deep=True)
            if isinstance(name, list | dict):
                raise ValueError(f"line {_line(key)}: a key must be a word or a number")
            if name in first:
                raise ValueError(
                    f"line {_line(key)}: {key.value} is given twice, first in line {first[name]}: keep one"
                )
            first[name] = _line(key)
            _require_value(key.value, value)
        return super().construct_mapping(node, deep)

    def construct_sequence(self, node: yaml.SequenceNode, deep: bool = False) -> list:
        for value in node.value:
            _require_value("-", value)
        return super().construct_sequence(node, deep)

    def integer(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _require_value(name: object, value: yaml.Node) -> None:
    """Raise ValueError for a value that is not there, or that other readers of YAML take for something else."""
    if not isinstance(value, yaml.ScalarNode) or value.style is not None:
        return
    if value.value == "" and value.tag == "tag:yaml.org,2002:null":
        raise ValueError(
            f"line {_line(value)}: {name} has no value: leave it out, or write {{}} for a section as it is by default"
        )
    if value.tag == "tag:yaml.org,2002:str":
        old = _OLD.resolve(yaml.ScalarNode, value.value, (True, False)).rpartition(":")[2]
        if old in WAS:
            raise ValueError(
                f"line {_line(value)}: {value.value} is a text in YAML 1.2, and was {WAS[old]} in YAML 1.1: write what "
                f'is meant as true, false or a plain number, or the text as "{value.value}"'
            )


_OLD = yaml.SafeLoader("")
for _kind, (_pattern, _starts) in CORE.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _starts)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)


def read(file: Path) -> Any:
    """What a YAML file says. UTF-8, or UTF-16 with its mark, whatever the locale is.

    Raises FileNotFoundError, OSError, or ValueError in one line with the line in the file.
    """
    content = file.read_bytes()
    try:
        return yaml.load(content, _Loader)
    except yaml.reader.ReaderError as error:
        raise ValueError(f"not text in UTF-8 ({error.reason}, position {error.position}): save it as such") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {_in_words(error)}") from None
    except RecursionError:
        raise ValueError("not valid YAML: too deep") from None


def _in_words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(part) for part in (getattr(error, "context", ""), getattr(error, "problem", "")) if part)
    if mark is None:
        return " ".join(str(error).split())
    hint = ": put a text that has a colon in quotes" if "mapping values are not allowed" in problem else ""
    hint = ": indent by spaces" if "\\t" in problem else hint
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{hint}"

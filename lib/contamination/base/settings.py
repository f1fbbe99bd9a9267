"""The building blocks of a parameter file's typed sections."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes part of a path
Ratio = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
# Keys of earlier parameter files, and what they are called now.
RENAMED = {
    "bound_weight": "vlb_weight",
    "neighbours": "neighbors",
    "randaugment_deviation": "randaugment_std",
    "redraws": "safety_retries",
    "reference": "auxiliary",
    "shifted": "ood",
}
MOVED = {"pretrain.draw": "grid.draws"}


class Section(BaseModel):
    """A part of a parameter file. What stands below a field says what it means, in parameters/README.md too."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


Some = TypeVar("Some", bound=Section)


def read_settings(section: type[Some], values: dict, *, key: str = "") -> Some:
    """The values as a section. Raises ValueError in one line: each wrong key, below `key`, and what is allowed."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = (_in_words(problem, section, key) for problem in error.errors())
        raise ValueError("; ".join(problems)) from None


def _in_words(problem: ErrorDetails, section: type[Section], key: str) -> str:
    where = ".".join(filter(None, [key, *map(str, problem["loc"])]))
    if problem["type"] == "missing":
        return f"{where} is missing"
    if where in MOVED:
        return f"{where} is {MOVED[where]} now, which varies it from seed to seed too"
    if problem["type"] == "extra_forbidden":
        if (new := RENAMED.get(str(problem["loc"][-1]))) in _known_keys(section, problem["loc"][:-1]):
            return f"{where} is called {new} now"
        return f"{where}: unknown key; allowed here: {', '.join(_known_keys(section, problem['loc'][:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    text = message if problem["type"] == "value_error" else f"{problem['input']!r}: {message}"
    if problem["type"] == "string_type" and isinstance(problem["input"], int | float):
        text += ": put it in quotes"
    return f"{where}: {text}" if where else text


def _known_keys(section: type[BaseModel], location: tuple) -> list[str]:
    for part in location:
        field = section.model_fields.get(str(part))
        section = section_in(field.annotation) if field else section
    return list(section.model_fields)


def section_in(annotation) -> type[BaseModel]:
    """The section class inside an annotation such as `Pretrain | None` or `dict[Name, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [section_in(part) for part in getattr(annotation, "__args__", ())]
    return next((part for part in inner if part is not Section), Section)

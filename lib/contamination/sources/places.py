"""Where a `data` section says that its splits lie, checked by its form alone."""

import itertools
from collections.abc import Callable
from pathlib import Path

SPLITS = ("pool", "train", "test")


def given(data: dict) -> list[str]:
    """The splits that a `data` section has a place for: not one that is a share of train."""
    return [split for split in SPLITS if isinstance(data.get(split), str | dict)]


def require(data: dict, form: str, *, fits: Callable[[str | dict], bool]) -> None:
    """Raise ValueError where a split has no place, one of another form, or that of another split.

    form: what a place is, in words. fits: whether one is of that form. Pool and test may be shares of train; whether a
    pool is needed depends on the grid.
    """
    lacking = [split for split in ("train", "test") if data.get(split) is None]
    if lacking:
        raise ValueError(
            f"source {data['source']} needs a path for {' and '.join(lacking)}; test may be a share of train, as 0.2"
        )
    places = {split: data[split] for split in given(data)}
    for split, place in places.items():
        if not fits(place):
            raise ValueError(f"{split}: source {data['source']} needs {form}")
    if len({str(place if isinstance(place, dict) else Path(place)) for place in places.values()}) < len(places):
        raise ValueError("pool, train and test must be different places")


def refuse(data: dict, *keys: str, instead: str) -> None:
    """Raise ValueError where a section has one of these keys. instead: why the source does not take them."""
    if any(data.get(key) for key in keys):
        words = f"neither {' nor '.join(keys)}" if len(keys) > 1 else f"no {keys[0]}"
        raise ValueError(f"source {data['source']} takes {words}: {instead}")


def require_apart(data: dict, overlap: Callable[[str, str], bool]) -> None:
    """Raise ValueError where one split, or an OOD set and what is learned from, share images.

    overlap: whether two places do.
    """
    splits = {split: data[split] for split in given(data)}
    learned = {split: place for split, place in splits.items() if split != "test"}
    pairs = list(itertools.combinations(splits.items(), 2))
    pairs += itertools.product(learned.items(), (data.get("ood") or {}).items())
    for (first, one), (second, other) in pairs:
        if overlap(one, other):
            raise ValueError(f"data: {first} ({one}) and {second} ({other}) share images: name places that do not")

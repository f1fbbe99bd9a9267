"""Images that are in two splits: exact twins, which are refused or dropped, and near-duplicates, which are named.

Two images are twins where their decoded pixels are the same: links, copies under other names, copies in another
lossless format. They are near-duplicates where small pictures of them differ by less than noise: copies that were
resized or compressed again. Crops, mirrored and recolored copies are not found.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from contamination.base import image_tables
from contamination.base.files import write_json
from contamination.sources import fingerprints
from contamination.sources.index import spell

LIST = "twins.json"
SHOWN = 3  # pairs in a sentence
NEAR = 2.0  # levels of 255 between the small pictures of near-duplicates, root mean square
CONTRAST = 8.0  # standard deviation of a small picture below which it shows too little to be compared
BLOCK, CHUNK = 256, 8192  # images of the test set and of another that are compared at a time
SHARING = (("pool", "train"), ("pool", "test"), ("train", "test"))  # where two share images the first one loses them


class Part(NamedTuple):
    """The images of one split. about: columns content_hash, thumbnail, id, label and image; rows: which are of it."""

    about: pa.Table
    rows: np.ndarray

    def keys(self) -> np.ndarray:
        """The hashes of its images: a structure of two uint64, (n,)."""
        return _keys(self.about["content_hash"])[self.rows]

    def named(self, row: int) -> str:
        return spell(self.about["id"][int(self.rows[row])].as_py())

    def image(self, row: int) -> dict:
        return self.about["image"][int(self.rows[row])].as_py()


def settle(splits: dict[str, Part], record: Path, *, policy: str, of_train: set[str]) -> tuple[dict, dict]:
    """Which rows of each split stay, bool (n,) each, and what else was found, sentences by split.

    policy: `refuse` raises ValueError where a split that is learned from and one that is scored, or pool and train,
    have images in common; `drop` takes them out of what is learned from, out of the pool before train; `count` marks
    them in the same way, for whoever looks before a run, and names them. record: the file of all pairs, written here.
    of_train: splits that are shares of train; images that such a pool has in common with train are only named.
    """
    stay = {split: np.ones(len(part.rows), dtype=bool) for split, part in splits.items()}
    found: dict[str, list] = {}
    remarks: dict[str, list[str]] = {split: [] for split in splits}
    refused = []
    for one, other in SHARING:
        if not {one, other} <= set(splits):
            continue
        rows, partners = _common(splits[one].keys(), splits[other].keys())
        if not len(rows):
            continue
        pairs = [_pair(splits[one], row, splits[other], partner) for row, partner in zip(rows, partners, strict=True)]
        found[f"{one} and {other}"] = pairs
        sentence = f"{len(rows):,} images of {one} are in {other} too ({shown(pairs, most=1)})"
        named_only = other == "train" and "pool" in of_train
        if named_only or policy == "count":
            remarks[one].append(sentence)
        if not named_only:
            stay[one][rows] = False
            refused.append(sentence)
    conflicts = _conflicts(splits["train"])
    if conflicts:
        found["train, with other labels"] = conflicts
        remarks["train"].append(f"{len(conflicts):,} images are in two classes of train ({shown(conflicts)})")
    for one in ("train", "pool"):
        near = _near_pairs(splits[one], splits["test"]) if one in splits and "test" in splits else []
        if near:
            found[f"{one} and test, nearly equal"] = near
            remarks[one].append(f"{len(near):,} images of {one} are nearly equal to one of test ({shown(near)})")
    write_json(record, found)
    if refused and policy == "refuse":
        raise ValueError(
            f"{'; '.join(refused)}: take them out of one of the two, or set data.twins to drop, which takes them out "
            f"of what is learned from; all are listed in {record}"
        )
    if policy == "drop":
        for split, part in splits.items():
            _require_classes(split, part, stay[split])
    return stay, remarks


def common_rows(about: pa.Table, others: dict[str, pa.Table]) -> tuple[np.ndarray, list[str]]:
    """The rows of a table whose images are in others too, bool (n,); and a sentence for each of these tables.

    Columns content_hash, id and image; of tables without the first, as of the digits, all images are decoded here.
    """
    mine, hit, sentences = Part(about, np.arange(about.num_rows)), np.zeros(about.num_rows, dtype=bool), []
    for name, table in others.items():
        if not table.num_rows:
            continue
        if "content_hash" not in table.column_names:
            table = table.append_column("content_hash", _hashed(table))
        other = Part(table, np.arange(table.num_rows))
        rows, partners = _common(mine.keys(), other.keys())
        if len(rows):
            hit[rows] = True
            pairs = [_pair(mine, row, other, partner) for row, partner in zip(rows[:2], partners[:2], strict=True)]
            sentences.append(f"{len(rows):,} are in {name} too ({shown(pairs, most=1)})")
    return hit, sentences


def leave_out(about: pa.Table, others: dict[str, pa.Table], *, policy: str, name: str) -> tuple[np.ndarray, dict]:
    """The rows of a set to be left out because they are in others too, bool (n,); and the facts of that, strings.

    policy: `refuse` raises ValueError for any; `drop` leaves them out and gives their number as the fact `twins`;
    `count` leaves them in and gives it as `shared`. name: of the set. about, others: as in `common_rows`.
    """
    hit, sentences = common_rows(about, others)
    if sentences and policy == "refuse":
        raise ValueError(
            f"{name}: of its images {'; '.join(sentences)}: take them out, or set data.twins to drop, which takes them "
            "out of the set"
        )
    count = str(hit.sum())
    if policy == "count":
        return np.zeros_like(hit), {"shared": count} if sentences else {}
    return hit, {"twins": count} if sentences else {}


def _hashed(table: pa.Table) -> pa.Array:
    images = zip(table["image"].to_pylist(), table["id"].to_pylist(), strict=True)
    ground = image_tables.background(table)
    hashes = [fingerprints.of(image_tables.data(image, str(name)), ground).content_hash for image, name in images]
    return pa.array(hashes, fingerprints.COLUMNS["content_hash"])


def _keys(hashes: pa.ChunkedArray) -> np.ndarray:
    # Not bytes for numpy, which would take a zero at their end for none.
    return np.frombuffer(b"".join(hashes.to_pylist()), dtype=[("upper", "<u8"), ("lower", "<u8")])


def _common(mine: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of `mine` that are among `others` too, and for each the first position there."""
    values, first = np.unique(others, return_index=True)
    if not len(values):
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    place = np.minimum(np.searchsorted(values, mine), len(values) - 1)
    rows = np.flatnonzero(values[place] == mine)
    return rows, first[place[rows]]


def _pair(one: Part, row: int, other: Part, partner: int) -> dict:
    return {"image": one.named(row), "twin": other.named(partner), "how": _how(one.image(row), other.image(partner))}


def _how(one: dict, other: dict) -> str:
    """How two images with the same pixels are stored: one file, copies of one, or neither."""
    first, second = image_tables.file_of(one), image_tables.file_of(other)
    if first is None or second is None:
        return "equal pixels"
    try:
        if first.samefile(second):
            return "one file"
        return "copies" if first.read_bytes() == second.read_bytes() else "equal pixels"
    except OSError:
        return "equal pixels"


def shown(pairs: list[dict], most: int = SHOWN) -> str:
    """The first pairs in words."""
    words = [f"{each['image']} and {each['twin']}: {each['how']}" for each in pairs[:most]]
    return "; ".join(words) + ("; ..." if len(pairs) > most else "")


def _conflicts(train: Part) -> list[dict]:
    """Images that are in train twice, with two labels."""
    keys, labels = train.keys(), train.about["label"].to_numpy()[train.rows]
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    pairs = ((order[place], order[place + 1]) for place in same)
    return [_pair(train, one, train, other) for one, other in pairs if labels[one] != labels[other]]


def _require_classes(split: str, part: Part, stay: np.ndarray) -> None:
    labels = part.about["label"].to_numpy()[part.rows]
    lost = sorted(set(labels[~stay].tolist()) - set(labels[stay].tolist()))
    if lost:
        row = int(np.flatnonzero(labels == lost[0])[0])
        raise ValueError(
            f"{split}: no images are left of {len(lost)} classes without those that are in another split too, such as "
            f"that of {part.named(row)}: name places that do not share images"
        )


# Near-duplicates


def _near_pairs(learned: Part, scored: Part) -> list[dict]:
    """Images that are learned from and look like one that is scored, each with one of these; no exact twins."""
    partner = _near(learned, scored)
    return [
        {"image": learned.named(row), "twin": scored.named(int(partner[row])), "how": "nearly equal"}
        for row in np.flatnonzero(partner >= 0).tolist()
    ]


def _near(learned: Part, scored: Part) -> np.ndarray:
    """The position of a near-duplicate of each image, int64 (n,), -1 for none.

    Only images of nearly equal brightness are compared, a twentieth of all pairs: no others can be near.
    """
    partner = np.full(len(learned.rows), -1)
    (mine, rows), (theirs, others) = _small(learned), _small(scored)
    keys, other_keys = learned.keys()[rows], scored.keys()[others]
    brightness, limit = _brightness(mine), NEAR**2 * mine.shape[1]
    for start in range(0, len(theirs), BLOCK):
        block, block_keys = _centered(theirs[start : start + BLOCK]), other_keys[start : start + BLOCK]
        low, high = block[0].mean() + 128 - NEAR, block[-1].mean() + 128 + NEAR
        first, last = np.searchsorted(brightness, [low, high])
        for at in range(first, last, CHUNK):
            part = _centered(mine[at : min(at + CHUNK, last)])
            squares = (part**2).sum(axis=1)[:, None] + (block**2).sum(axis=1)[None] - 2 * part @ block.T
            row, other = np.nonzero(squares <= limit)
            row, other = (each[keys[at + row] != block_keys[other]] for each in (row, other))
            partner[rows[at + row]] = others[start + other]
    return partner


def _small(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """The small pictures of a split that show something, uint8 (n, 192), the dark ones first; and their positions."""
    column = part.about["thumbnail"].take(pa.array(part.rows)).combine_chunks()
    width = column.type.byte_width
    start = column.offset * width
    values = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width].reshape(-1, width)
    shows = np.flatnonzero(_of_blocks(values, lambda block: block.std(axis=1)) >= CONTRAST)
    order = shows[np.argsort(_brightness(values[shows]), kind="stable")]
    return values[order], order


def _brightness(values: np.ndarray) -> np.ndarray:
    return _of_blocks(values, lambda block: block.mean(axis=1))


def _of_blocks(values: np.ndarray, measure: Callable) -> np.ndarray:
    """A number for each row. In blocks: numpy would hold all rows as numbers of eight bytes."""
    parts = [measure(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK)]
    return np.concatenate([np.empty(0), *parts])


def _centered(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) - 128  # small numbers, so that their squares lose no digits

"""Broken images: every file of an index is decoded once, as training will decode it, before anything rests on it.

What is learned of the others meanwhile is kept with them, see `fingerprints`.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import conversion, image_tables
from contamination.base.files import read_json, write_json
from contamination.sources import fingerprints
from contamination.sources import index as indexing
from contamination.sources.fingerprints import Fingerprint
from contamination.sources.index import Index, spell

POLICIES = ("refuse", "skip")
LIST, FINE, SEEN = "broken.json", "fine.arrow", "seen.arrow"
SAME = ["path", "size", "mtime_ns"]  # where these agree, a file is the one that was found fine before
BATCH = 64  # images that a process is given at a time
BLOCK = 50_000  # images between two records of how far a check has come


def find(paths: list[str | Path], workers: int = 1) -> list[tuple[str | Path, str]]:
    """Those of the files that cannot be decoded, in their order, each with the reason.

    workers: processes; one is this process itself. Raises OSError when one of them dies.
    """
    found = zip(paths, _decoded(_Files(paths), workers), strict=True)
    return [(path, seen) for path, seen in found if isinstance(seen, str)]


def check(
    index: Index, folder: Path, workers: int = 1, progress: bool = True, background: str = conversion.WHITE
) -> dict[int, str]:
    """The rows of an index that cannot be decoded, in order, each with the reason.

    folder: holds what is known of this tree. `fine.arrow`, written every 50,000 images: what was decoded and has not
    changed since in path, size and time is not decoded again, after an interruption or in a changed tree. What was
    broken always is. `broken.json`, written at the end: the fingerprint of the index, the number of its images and the
    path and reason of each broken one. background: the color on which transparency is laid; what was decoded with
    another one is decoded again.
    """
    place = _places(index, folder / FINE, background)
    rows = np.flatnonzero(place < 0)
    broken, fine = {}, _Kept(index, folder / FINE, background, place)
    seen = _decoded(_Files(index.paths(rows), background), workers)
    shown = indexing.watched(
        zip(rows.tolist(), seen, strict=True), progress, name=f"decoding {index.tree.name}", unit="image"
    )
    for done, (row, found) in enumerate(shown, start=1):
        if isinstance(found, str):
            broken[row] = found
        else:
            fine.add(row, found)
        if done % BLOCK == 0 or done == len(rows):
            fine.write()
    listed = [{"path": spell(index.path(row)), "reason": reason} for row, reason in broken.items()]
    content = {"fingerprint": index.fingerprint, "images": len(place), "broken": listed}
    write_json(folder / LIST, content)
    return broken


def fingerprints_of(index: Index, folder: Path, background: str = conversion.WHITE) -> pa.Table:
    """The columns of `fingerprints.COLUMNS`, a row for each image of an index that `check` has found fine."""
    place = _places(index, folder / FINE, background)
    assert (place >= 0).all(), "an image that was not checked"
    return image_tables.read(folder / FINE).select(list(fingerprints.COLUMNS)).take(place)


def usable(
    index: Index, folder: Path, *, policy: str, workers: int = 1, background: str = conversion.WHITE
) -> tuple[Index, int]:
    """The index of the images that can be decoded, and the number of those left out.

    policy: `refuse` raises ValueError for any that cannot; `skip` leaves them out, and raises ValueError only where
    nothing is left of a class. folder, background: as in `check`.
    """
    _require_policy(policy)
    broken = check(index, folder, workers, background=background)
    if broken and policy == "refuse":
        named = {spell(index.path(row)): reason for row, reason in broken.items()}
        raise ValueError(_refusal(named, index.images.num_rows, index.tree, folder))
    kept = np.ones(index.images.num_rows, dtype=bool)
    kept[list(broken)] = False
    return (indexing.keep(index, kept) if broken else index), len(broken)


def usable_rows(
    table: pa.Table,
    where: str,
    *,
    folder: Path,
    mark: str,
    policy: str,
    workers: int = 1,
    background: str = conversion.WHITE,
) -> tuple[pa.Table, int]:
    """The same for an image table, which gets the columns of `fingerprints.COLUMNS`. where: its name, for the words.

    folder: for `broken.json`, as in `check`, and `seen.arrow`, the fingerprints of all rows. mark: of all that the
    images depend on; where it is the one of an earlier check, only what was broken then is decoded again.
    """
    _require_policy(policy)
    table, broken = _check_rows(table, where, folder, mark, workers, background)
    if broken and policy == "refuse":
        named = {table["id"][row].as_py(): reason for row, reason in broken.items()}
        raise ValueError(_refusal(named, table.num_rows, where, folder))
    kept = _without(table, list(broken))
    if len(kept["label"].unique()) < len(table["label"].unique()):
        raise ValueError(f"{where}: no images are left of a class, {len(broken)} cannot be decoded")
    return kept, len(broken)


def _check_rows(
    table: pa.Table, where: str, folder: Path, mark: str, workers: int, background: str
) -> tuple[pa.Table, dict[int, str]]:
    """The table with fingerprints, null for broken images, and the reasons of these by row."""
    mark = f"{mark}, {_mark(background)}"
    known = read_json(folder / LIST) if (folder / LIST).exists() else {}
    same = known.get("fingerprint") == mark == image_tables.metadata(folder / SEEN).get("mark")
    again = [each["row"] for each in known["broken"]] if same else range(table.num_rows)
    seen = zip(again, _decoded(_Rows(table, again, background), workers), strict=True)
    shown = indexing.watched(seen, True, name=f"decoding {where}", unit="image")
    nothing = dict.fromkeys(fingerprints.COLUMNS)
    prints: list = image_tables.read(folder / SEEN).to_pylist() if same else [nothing] * table.num_rows
    broken = {}
    for row, found in shown:
        if isinstance(found, str):
            broken[row] = found
        else:
            prints[row] = found._asdict()
    columns = pa.Table.from_pylist(prints, pa.schema(fingerprints.COLUMNS))
    image_tables.save(folder / SEEN, columns, mark=mark)
    listed = [{"path": table["id"][row].as_py(), "row": row, "reason": reason} for row, reason in broken.items()]
    write_json(folder / LIST, {"fingerprint": mark, "images": table.num_rows, "broken": listed})
    for name in fingerprints.COLUMNS:
        table = table.append_column(name, columns[name])
    return table, broken


def _without(table: pa.Table, rows: list[int]) -> pa.Table:
    """The other rows, in slices of the table: a filter would hold a copy of all images."""
    edges = itertools.pairwise([-1, *rows, table.num_rows])
    return pa.concat_tables([table.slice(before + 1, after - before - 1) for before, after in edges])


def _require_policy(policy: str) -> None:
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} for broken images is not known: give one of {', '.join(POLICIES)}")


def _refusal(broken: dict[str, str], count: int, where: object, folder: Path) -> str:
    first = "; ".join(f"{name}: {reason}" for name, reason in list(broken.items())[:5])
    return (
        f"{len(broken)} of {count} images in {where} cannot be decoded ({first}): replace or remove them, or choose to "
        f"skip them (data.broken); all are listed in {folder / LIST}"
    )


def _mark(background: str) -> str:
    return f"images found fine, {background}, {fingerprints.READING}"


def _places(index: Index, record: Path, background: str) -> np.ndarray:
    """In which row of a record each image stands that an earlier check has found fine: int64, -1 for none."""
    place = np.full(index.images.num_rows, -1)
    if image_tables.metadata(record).get("holds") == _mark(background):
        rows = index.images.select(SAME).append_column("row", pa.array(np.arange(len(place))))
        known = image_tables.read(record).select(SAME)
        known = known.append_column("place", pa.array(np.arange(known.num_rows)))
        both = rows.join(known, SAME, join_type="inner", use_threads=False)
        place[both["row"].to_numpy()] = both["place"].to_numpy()
    return place


class _Kept:
    """The record of the images that were found fine, while it grows. place: as `_places` gives it."""

    def __init__(self, index: Index, record: Path, background: str, place: np.ndarray):
        self.index, self.record, self.background = index, record, background
        self.rows = np.flatnonzero(place >= 0).tolist()
        self.columns = []
        if self.rows:
            self.columns.append(image_tables.read(record).select(list(fingerprints.COLUMNS)).take(place[self.rows]))
        self.new: list[Fingerprint] = []

    def add(self, row: int, found: Fingerprint) -> None:
        self.rows.append(row)
        self.new.append(found)

    def write(self) -> None:
        self.columns.append(fingerprints.table(self.new))
        self.new = []
        table = self.index.images.select(SAME).take(pa.array(self.rows, pa.int64()))
        columns = pa.concat_tables(self.columns)
        for name in fingerprints.COLUMNS:
            table = table.append_column(name, columns[name])
        image_tables.save(self.record, table, holds=_mark(self.background))


class _Files:
    """What torch's loader needs: files by number. An item is why a file cannot be decoded, or its fingerprint."""

    def __init__(self, paths: Sequence[str | Path], background: str = conversion.WHITE):
        self.background = background
        # In one block: of a list the loader's processes would come to hold a copy each.
        self.paths = pa.array([os.fsencode(path) for path in paths], pa.binary())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> str | Fingerprint:
        try:
            with open(self.path(number), "rb") as file:
                return fingerprints.of(file.read(), self.background)
        except OSError as error:
            return f"the file cannot be read ({error.strerror})"
        except ValueError as error:
            return str(error)

    def path(self, number: int) -> str:
        return os.fsdecode(self.paths[number].as_py())


class _Rows:
    """The same for images of a table. rows: which."""

    def __init__(self, table: pa.Table, rows: Sequence[int], background: str = conversion.WHITE):
        self.table, self.rows, self.background = table, rows, background

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> str | Fingerprint:
        try:
            data = image_tables.data(self.table["image"][self.rows[number]].as_py(), self.path(number))
            return fingerprints.of(data, self.background)
        except (OSError, ValueError) as error:
            return str(error)

    def path(self, number: int) -> str:
        return self.table["id"][self.rows[number]].as_py()


def _decoded(files: "_Files | _Rows", workers: int) -> Iterator[str | Fingerprint]:
    """Why each file cannot be decoded, or its fingerprint, in their order."""
    from torch.utils.data import DataLoader

    loader = DataLoader(files, batch_size=BATCH, num_workers=workers if workers > 1 else 0, collate_fn=list)
    done = 0
    try:
        for batch in loader:
            yield from batch
            done += len(batch)
    except RuntimeError as error:
        near = f"{spell(files.path(done))} or one of the {2 * workers * BATCH} files after it"
        raise OSError(f"a process died while it decoded {near}: {str(error).splitlines()[0]}") from None

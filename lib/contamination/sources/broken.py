"""Broken images: every file of an index is decoded once, as training will decode it, before anything rests on it."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import image_tables
from contamination.base.files import read_json, write_json
from contamination.sources import index as indexing
from contamination.sources.index import Index, spell

POLICIES = ("refuse", "skip")
LIST, FINE = "broken.json", "fine.arrow"
SAME = ["path", "size", "mtime_ns"]  # where these agree, a file is the one that was found fine before
BATCH = 64  # images that a process is given at a time
BLOCK = 50_000  # images between two records of how far a check has come


def find(paths: list[str | Path], workers: int = 1) -> list[tuple[str | Path, str]]:
    """Those of the files that cannot be decoded, in their order, each with the reason.

    workers: processes; one is this process itself. Raises OSError when one of them dies.
    """
    reasons = _reasons(_Files(paths), workers)
    return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]


def check(index: Index, folder: Path, workers: int = 1, progress: bool = True) -> dict[int, str]:
    """The rows of an index that cannot be decoded, in order, each with the reason.

    folder: holds what is known of this tree. `fine.arrow`, written every 50,000 images: what was decoded and has not
    changed since in path, size and time is not decoded again, after an interruption or in a changed tree. What was
    broken always is. `broken.json`, written at the end: the fingerprint of the index, the number of its images and the
    path and reason of each broken one.
    """
    fine = _known(index, folder / FINE)
    rows = np.flatnonzero(~fine)
    broken = {}
    reasons = _reasons(_Files(index.paths(rows)), workers)
    shown = indexing.watched(
        zip(rows.tolist(), reasons, strict=True), progress, name=f"decoding {index.tree.name}", unit="image"
    )
    for done, (row, reason) in enumerate(shown, start=1):
        if reason:
            broken[row] = reason
        else:
            fine[row] = True
        if done % BLOCK == 0 or done == len(rows):
            _write_known(index, folder / FINE, fine)
    listed = [{"path": spell(index.path(row)), "reason": reason} for row, reason in broken.items()]
    content = {"fingerprint": index.fingerprint, "images": len(fine), "broken": listed}
    write_json(folder / LIST, content)
    return broken


def usable(index: Index, folder: Path, *, policy: str, workers: int = 1) -> tuple[Index, int]:
    """The index of the images that can be decoded, and the number of those left out.

    policy: `refuse` raises ValueError for any that cannot; `skip` leaves them out, and raises ValueError only where
    nothing is left of a class. folder: as in `check`.
    """
    _require_policy(policy)
    broken = check(index, folder, workers)
    if broken and policy == "refuse":
        named = {spell(index.path(row)): reason for row, reason in broken.items()}
        raise ValueError(_refusal(named, index.images.num_rows, index.tree, folder))
    kept = np.ones(index.images.num_rows, dtype=bool)
    kept[list(broken)] = False
    return (indexing.keep(index, kept) if broken else index), len(broken)


def usable_rows(
    table: pa.Table, where: str, *, folder: Path, mark: str, policy: str, workers: int = 1
) -> tuple[pa.Table, int]:
    """The same for an image table. where: what it is called, for the words.

    folder: for `broken.json`, as in `check`. mark: of all that the images depend on; where it is the one of an earlier
    check, only what was broken then is decoded again.
    """
    _require_policy(policy)
    broken = _check_rows(table, where, folder / LIST, mark, workers)
    if broken and policy == "refuse":
        named = {table["id"][row].as_py(): reason for row, reason in broken.items()}
        raise ValueError(_refusal(named, table.num_rows, where, folder))
    kept = _without(table, list(broken))
    if len(kept["label"].unique()) < len(table["label"].unique()):
        raise ValueError(f"{where}: no images are left of a class, {len(broken)} cannot be decoded")
    return kept, len(broken)


def _check_rows(table: pa.Table, where: str, record: Path, mark: str, workers: int) -> dict[int, str]:
    known = read_json(record) if record.exists() else {}
    again = [each["row"] for each in known["broken"]] if known.get("fingerprint") == mark else range(table.num_rows)
    reasons = _reasons(_Rows(table, again), workers)
    shown = indexing.watched(zip(again, reasons, strict=True), True, name=f"decoding {where}", unit="image")
    broken = {row: reason for row, reason in shown if reason}
    listed = [{"path": table["id"][row].as_py(), "row": row, "reason": reason} for row, reason in broken.items()]
    write_json(record, {"fingerprint": mark, "images": table.num_rows, "broken": listed})
    return broken


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


def _known(index: Index, record: Path) -> np.ndarray:
    """Which rows an earlier check has found fine: bool, one for each row of the index."""
    fine = np.zeros(index.images.num_rows, dtype=bool)
    if image_tables.metadata(record):
        rows = index.images.select(SAME).append_column("row", pa.array(np.arange(len(fine))))
        fine[rows.join(image_tables.read(record), SAME, join_type="left semi", use_threads=False)["row"].to_numpy()] = (
            True
        )
    return fine


def _write_known(index: Index, record: Path, fine: np.ndarray) -> None:
    image_tables.save(record, index.images.select(SAME).filter(pa.array(fine)), holds="images found fine")


class _Files:
    """What torch's loader needs: files by number. An item is why a file cannot be decoded, None where it can."""

    def __init__(self, paths: Sequence[str | Path]):
        # In one block: of a list the loader's processes would come to hold a copy each.
        self.paths = pa.array([os.fsencode(path) for path in paths], pa.binary())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> str | None:
        try:
            image_tables.pixels(Path(self.path(number)).read_bytes())
        except OSError as error:
            return f"the file cannot be read ({error.strerror})"
        except ValueError as error:
            return str(error)
        return None

    def path(self, number: int) -> str:
        return os.fsdecode(self.paths[number].as_py())


class _Rows:
    """The same for images of a table. rows: which."""

    def __init__(self, table: pa.Table, rows: Sequence[int]):
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> str | None:
        try:
            image_tables.pixels(image_tables.data(self.table["image"][self.rows[number]].as_py(), self.path(number)))
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def path(self, number: int) -> str:
        return self.table["id"][self.rows[number]].as_py()


def _reasons(files: "_Files | _Rows", workers: int) -> Iterator[str | None]:
    """Why each file cannot be decoded, None where it can, in their order."""
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

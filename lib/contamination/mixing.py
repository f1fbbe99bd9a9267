"""Mixtures: which image stands in each slot of a training set, as a manifest and never as a copy."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from contamination import store
from contamination.files import hash_file, whole_file
from contamination.layout import Layout, spell_ratio

ARMS = ("clean", "generated", "other_real", "dropped")
REAL = "train"  # the source of a slot that keeps its real image


def replacement_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """The rank, within its class, at which each slot gives up its real image: int64, shape (slots,).

    One order serves every ratio, so the slots replaced at 20 % are among those replaced at 40 %.
    """
    rng = np.random.default_rng([seed, 2])
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[rng.permutation(members)] = np.arange(len(members))
    return rank


def replaced(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Which slots lose their real image: bool, shape (slots,), exactly round(ratio * class size) in every class.

    Halves round up, in every class alike. Raises ValueError for a ratio outside 0..1.
    """
    spell_ratio(ratio)
    sizes = np.bincount(labels)
    # The tiny term keeps 0.35 * 20, which is 7.000000000000001 or 6.999999999999999 in binary, from moving a slot.
    counts = np.floor(ratio * sizes + 0.5 + 1e-9).astype(np.int64)
    return replacement_order(labels, seed) < counts[labels]


def partner(labels: np.ndarray, pool_labels: np.ndarray, seed: int) -> np.ndarray:
    """For each slot the pool row of the same class that may stand in for it: int64, shape (slots,).

    Each pool image is used at most once. Raises ValueError when a class has fewer pool images than slots.
    """
    rng = np.random.default_rng([seed, 3])
    rows = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        slots, candidates = np.flatnonzero(labels == label), np.flatnonzero(pool_labels == label)
        if len(candidates) < len(slots):
            raise ValueError(
                f"class {label} has {len(slots)} slots but only {len(candidates)} pool images: "
                "give a larger pool or leave out the arm other_real"
            )
        rows[slots] = rng.permutation(candidates)[: len(slots)]
    return rows


def mix(
    labels: np.ndarray, arm: str, source: str, ratio: float, seed: int, pool_labels: np.ndarray | None = None
) -> pa.Table:
    """The manifest of one mixture: columns slot, source, row, label, one line per slot that is not empty.

    labels: class index of each slot. arm: what takes the place of the real images that are taken away.
    source: the generated set for arm `generated`; ignored by the others. pool_labels: needed by `other_real`.
    """
    if arm not in ARMS:
        raise ValueError(f"arm {arm!r} is not known: give one of {', '.join(ARMS)}")
    if arm == "clean" and ratio != 0:
        raise ValueError(f"arm clean is ratio 0, not {ratio}")
    taken = replaced(labels, ratio, seed)
    slots = np.arange(len(labels))
    rows, sources = slots.copy(), np.full(len(labels), REAL, dtype=object)
    if arm == "generated":
        sources[taken] = source  # row i of a generated set was made for slot i
    elif arm == "other_real":
        rows[taken], sources[taken] = partner(labels, pool_labels, seed)[taken], "pool"
    kept = ~taken if arm == "dropped" else np.ones(len(labels), dtype=bool)
    columns = {"slot": slots[kept], "source": pa.array(sources[kept]).dictionary_encode(), "row": rows[kept]}
    return pa.table(columns | {"label": labels[kept]})


def write_manifest(path: Path, manifest: pa.Table, image_tables: dict[str, list[Path]]) -> None:
    """Write a manifest with the hash of every image table it names, so that it can be replayed and checked."""
    used = manifest["source"].unique().to_pylist()
    hashes = {f"hash of {source}": ",".join(map(hash_file, image_tables[source])) for source in used}
    with whole_file(path) as scratch:
        pyarrow.parquet.write_table(manifest.replace_schema_metadata(hashes), scratch)


def read_manifest(path: Path) -> pa.Table:
    return pyarrow.parquet.read_table(path)


def image_tables(layout: Layout, source: str) -> list[Path]:
    """The files that hold a source: a real split, or the shards of a generated set in slot order."""
    if source in (REAL, "pool"):
        return [layout.real(source)]
    return sorted(layout.generated(source).glob("shard-*.arrow"))


def gather(layout: Layout, manifest: pa.Table) -> pa.Table:
    """The images of a mixture in slot order: columns image, id, label, source, slot."""
    sources, rows = np.array(manifest["source"].to_pylist()), manifest["row"].to_numpy()
    parts, order = [], []
    for source in np.unique(sources):
        positions = np.flatnonzero(sources == source)
        parts.append(store.read(*image_tables(layout, source)).select(["image", "id"]).take(rows[positions]))
        order.append(positions)
    images = pa.concat_tables(parts).take(np.argsort(np.concatenate(order)))
    for column in ("label", "source", "slot"):
        images = images.append_column(column, manifest[column])
    return images

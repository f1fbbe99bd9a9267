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
    # The tiny term keeps a half that is a little less in binary, such as 0.145 * 100, from being rounded down.
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
                "give a larger pool or leave out what needs other real images (arm other_real, section measure)"
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
    """Write a manifest with the hash of every image table it names: what exactly was mixed stays on record."""
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


def in_slots(layout: Layout, source: str, seed: int) -> pa.Table:
    """The images that a source would put into the slots, row i into slot i: a generated set, or `pool`.

    Raises ValueError when the set is not made for these slots, or the pool has too few images of a class.
    """
    labels = store.read(layout.real(REAL))["label"].to_numpy()
    files = image_tables(layout, source)
    if not files:
        raise ValueError(f"generated set {source} is missing: run 01_generate for it first")
    table = store.read(*files)
    if source == "pool":
        return table.take(partner(labels, table["label"].to_numpy(), seed))
    if not (np.array_equal(table["slot"], np.arange(len(labels))) and np.array_equal(table["label"], labels)):
        raise ValueError(
            f"generated set {source} ({table.num_rows} images) is not made for the {len(labels)} slots of train, one "
            "image each in their order and class: run 01_generate for it again"
        )
    return table


def gather(layout: Layout, manifest: pa.Table) -> pa.Table:
    """The images of a mixture in slot order: columns image, id, label, caption, source, slot.

    A generated image has the caption of its slot. Raises ValueError when a source no longer holds what the manifest was
    made for.
    """
    sources, rows = np.array(manifest["source"].to_pylist()), manifest["row"].to_numpy()
    captions = store.read(layout.real(REAL))["caption"]
    parts, order = [], []
    for source in np.unique(sources):
        positions = np.flatnonzero(sources == source)
        table = store.read(*image_tables(layout, source))
        _require_complete(table, source, int(rows[positions].max()))
        if "caption" not in table.column_names:
            table = table.append_column("caption", captions.take(table["slot"]))
        parts.append(table.select(["image", "id", "label", "caption"]).take(rows[positions]))
        order.append(positions)
    images = pa.concat_tables([part.cast(parts[0].schema) for part in parts])
    images = images.take(np.argsort(np.concatenate(order)))
    if not np.array_equal(images["label"].to_numpy(), manifest["label"].to_numpy()):
        raise ValueError("a source of this mixture has changed since it was mixed: run 02_mix again")
    for column in ("source", "slot"):
        images = images.append_column(column, manifest[column])
    return images


def _require_complete(table: pa.Table, source: str, last_row: int) -> None:
    """Row i of a generated set must be slot i: a lost shard would move every later image to another slot."""
    slots = table["slot"].to_numpy() if "slot" in table.column_names else np.arange(table.num_rows)
    if last_row >= len(slots) or not np.array_equal(slots, np.arange(len(slots))):
        raise ValueError(f"{source} lacks images: run 01_generate for it again")

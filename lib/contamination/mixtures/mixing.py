"""Mixtures: which image stands in each slot of a training set, as a manifest and never as a copy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from contamination.base import conversion, image_tables
from contamination.base.files import RECORD, fingerprint, hash_file, require, whole_file, whole_folder, write_json
from contamination.base.layout import Layout, spell_ratio
from contamination.mixtures import arms, replicates, shares

REAL = arms.TRAIN  # the source of a slot that keeps its real image


def replacement_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """The rank, within its class, at which each slot gives up its real image: int64, shape (slots,).

    One order serves every ratio, so the slots replaced at 20 % are among those replaced at 40 %.
    """
    rng = np.random.default_rng([seed, 2])
    rank = np.empty(len(labels), dtype=np.int64)
    for members in _by_class(labels).values():
        rank[rng.permutation(members)] = np.arange(len(members))
    return rank


def _by_class(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The positions of each class that is there, in order; by one sort, for there may be a thousand classes."""
    present, starts = np.unique(np.sort(labels), return_index=True)
    members = np.split(np.argsort(labels, kind="stable"), starts[1:])
    return dict(zip(present.tolist(), members, strict=True)) if len(labels) else {}


def replaced(labels: np.ndarray, ratio: float, *, seed: int) -> np.ndarray:
    """Which slots lose their real image: bool, shape (slots,), as many in every class as `shares.counts` says.

    Raises ValueError for a ratio outside 0..1.
    """
    spell_ratio(ratio)
    return replacement_order(labels, seed) < shares.counts(np.bincount(labels), ratio)[labels]


def partner(labels: np.ndarray, pool_labels: np.ndarray, *, seed: int) -> np.ndarray:
    """For each slot the pool row of the same class that may stand in for it: int64, shape (slots,).

    Each pool image is used at most once; so is each of an imported tree, which stands for the pool then. Raises
    ValueError when a class has fewer pool images than slots.
    """
    rng = np.random.default_rng([seed, 3])
    rows = np.empty(len(labels), dtype=np.int64)
    pool, none = _by_class(pool_labels), np.empty(0, dtype=np.int64)
    for label, slots in _by_class(labels).items():
        candidates = pool.get(label, none)
        if len(candidates) < len(slots):
            raise ValueError(
                f"class {label} has {len(slots)} slots but only {len(candidates)} pool images: "
                "give a larger pool or leave out what needs unseen real images (arm other_real, section measure)"
            )
        rows[slots] = rng.permutation(candidates)[: len(slots)]
    return rows


def mix(
    labels: np.ndarray, arm: str, *, source: str, ratio: float, seed: int, pool_labels: np.ndarray | None = None
) -> pa.Table:
    """The manifest of one mixture: columns slot, source, row, label, one line per slot that is not empty.

    labels: class index of each slot. arm: what takes the place of the real images that are removed.
    source: the generated set, where the arm is of sets. seed: of the slots. pool_labels: needed where images come from
    the pool.
    """
    kind = arms.of(arm)
    if kind == arms.CLEAN and ratio != 0:
        raise ValueError(f"arm {arm} is ratio 0, not {ratio}")
    taken = replaced(labels, ratio, seed=seed)
    slots = np.arange(len(labels))
    rows = slots  # row i of a generated set was made for slot i
    if kind.images == arms.POOL:
        assert pool_labels is not None, "an arm that takes images from the pool needs its labels"
        rows = np.where(taken, partner(labels, pool_labels, seed=seed), slots)
    other = source if kind.of_sets else arms.NOTHING if kind.only_own_images else kind.images
    # Numbers for the two names: there may be millions of slots.
    named = pa.DictionaryArray.from_arrays(taken.astype(np.int8), [REAL, other])
    manifest = pa.table({"slot": slots, "source": named, "row": rows, "label": labels})
    return manifest.filter(pa.array(~taken)) if kind.leaves_slots_empty else manifest


def mix_all(
    layout: Layout,
    arm: str,
    *,
    source: str,
    ratio: float,
    seeds: Sequence[int],
    draws: Sequence[int] = (),
    slots: Sequence[int] = (),
) -> dict[int, pa.Table]:
    """The manifest of each seed, as `mix` makes it of the study's images.

    seeds, draws, slots: as in `replicates.of_lists`.
    Raises ValueError for images that are missing, for a ratio above 0 that replaces none and for a mixture of none.
    """
    labels, pool = (image_tables.read(layout.real(split))["label"].to_numpy() for split in (REAL, arms.POOL))
    shares.check([ratio], np.bincount(labels).tolist())
    given: dict = {"source": source, "ratio": ratio, "pool_labels": pool}
    manifests = {
        each.seed: with_draw(mix(labels, arm, seed=each.slots, **given), each.draw)
        for each in replicates.of_lists(seeds, draws, slots)
    }
    for manifest in manifests.values():
        for name, files in used_by(layout, manifest).items():
            if not files:
                of_draw = f" of draw {draw}" if (draw := draw_of(manifest)) else ""
                raise ValueError(f"images{of_draw} of {name} are missing: run 01_generate or 01_import first")
    if not all(manifest.num_rows for manifest in manifests.values()):
        raise ValueError(f"nothing is left at ratio {ratio}")
    return manifests


def with_draw(manifest: pa.Table, draw: int) -> pa.Table:
    """A manifest that names the images of this draw of a generated set; of draw 0 it says nothing of draws."""
    return manifest.replace_schema_metadata({"draw": str(draw)}) if draw else manifest


def draw_of(manifest: pa.Table) -> int:
    """The draw of the generated set whose images a manifest names."""
    return int((manifest.schema.metadata or {}).get(b"draw", 0))


def used_by(layout: Layout, manifest: pa.Table) -> dict[str, list[Path]]:
    """The files of each source that a manifest names."""
    layout = layout.of_draw(draw_of(manifest))
    return {source: tables_of(layout, source) for source in manifest["source"].unique().to_pylist()}


def write(
    layout: Layout,
    manifests: dict[int, pa.Table],
    *,
    arm: str,
    source: str,
    ratio: float,
    draws: Sequence[int] = (),
    slots: Sequence[int] = (),
) -> Path:
    """Write the manifests of one mixture, one for each seed; return their folder. draws, slots: as in `mix_all`."""
    folder = layout.writable.mixture(arm, source, ratio, list(manifests), draws, slots)
    with whole_folder(folder) as scratch:
        for seed, manifest in manifests.items():
            write_manifest(scratch / f"seed-{seed}.parquet", manifest, tables=used_by(layout, manifest))
        images = {str(seed): manifest.num_rows for seed, manifest in manifests.items()}
        share = shares.of(image_tables.read(layout.real(REAL))["label"].to_numpy(), ratio)._asdict()
        facts = {"arm": arm, "source": source, "ratio": ratio, "images": images, "replaced": share}
        write_json(scratch / RECORD, facts)
    return folder


def folder_of(
    layout: Layout,
    arm: str,
    *,
    source: str,
    ratio: float,
    seeds: Sequence[int],
    draws: Sequence[int] = (),
    slots: Sequence[int] = (),
) -> Path:
    """The folder of a mixture's manifests. A notebook that is run by hand mixes what the sweep has not mixed.

    Raises FileNotFoundError in a sweep, where 02_mix has not run.
    """
    folder = layout.mixture(arm, source, ratio, seeds, draws, slots)
    if layout.by_hand and not folder.exists():
        given: dict = {"source": source, "ratio": ratio, "draws": draws, "slots": slots}
        return write(layout, mix_all(layout, arm, seeds=seeds, **given), arm=arm, **given)
    return require(folder, "02_mix")


def write_manifest(path: Path, manifest: pa.Table, *, tables: dict[str, list[Path]]) -> None:
    """Write a manifest with the hash of every image table it names: what exactly was mixed stays on record."""
    used = manifest["source"].unique().to_pylist()
    known = (manifest.schema.metadata or {}) | {f"hash of {source}": content_hash(tables[source]) for source in used}
    with whole_file(path) as scratch:
        # Numbers that do not repeat are not worth a dictionary, which takes as much memory as they do.
        pyarrow.parquet.write_table(manifest.replace_schema_metadata(known), scratch, use_dictionary=["source"])


def content_hash(tables: list[Path]) -> str:
    """A hash of what the image tables of one source hold; empty where there are none.

    Of generated images the hashes that each has on record are taken, for the images themselves may be 100 GB.
    """
    return fingerprint({"tables": [_own_hash(path) for path in tables]}) if tables else ""


def _own_hash(path: Path) -> str:
    table = image_tables.read(path)
    return fingerprint(table["bytes_hash"].to_pylist()) if "bytes_hash" in table.column_names else hash_file(path)


def read_manifest(path: Path) -> pa.Table:
    return pyarrow.parquet.read_table(path)


def tables_of(layout: Layout, source: str) -> list[Path]:
    """The files that hold a source: a real split, or the shards of a generated set in slot order."""
    if source in (REAL, arms.POOL):
        return [layout.real(source)]
    return sorted(layout.generated(source).glob("shard-*.arrow"))


def in_slots(layout: Layout, source: str, *, seed: int) -> pa.Table:
    """The images that a source would put into the slots, row i into slot i: a generated set, or `pool`.

    Raises ValueError when the set is not made for these slots, or the pool has too few images of a class.
    """
    labels = image_tables.read(layout.real(REAL))["label"].to_numpy()
    files = tables_of(layout, source)
    if not files:
        raise ValueError(f"generated set {source} is missing: run 01_generate or 01_import for it first")
    table = image_tables.read(*files)
    if source == arms.POOL:
        return image_tables.take(table, partner(labels, table["label"].to_numpy(), seed=seed))
    if not (np.array_equal(table["slot"], np.arange(len(labels))) and np.array_equal(table["label"], labels)):
        raise ValueError(
            f"generated set {source} ({table.num_rows} images) is not made for the {len(labels)} slots of train, one "
            "image each in their order and class: run 01_generate or 01_import for it again"
        )
    return table


class Mixture:
    """The images of a mixture in slot order, for what reads rows one by one, as it would those of an image table.

    They stay in the tables that hold them: a million generated ones would not fit in memory.
    about: columns id, label, caption, source, slot. images: the column `image` of all sources, one after another.
    places: the row in it of each slot, int64 (slots,). background: on which transparency is laid.
    """

    def __init__(
        self, about: pa.Table, images: pa.ChunkedArray, places: np.ndarray, background: str = conversion.WHITE
    ):
        self.about, self.images, self.places, self.background = about, images, places, background
        self.num_rows, self.column_names = len(places), ["image", *about.column_names]

    def __getitem__(self, column: str):
        return Placed(self.images, self.places) if column == "image" else self.about[column]

    def take(self, rows: np.ndarray) -> pa.Table:
        """Some of them as an image table."""
        images = image_tables.take(pa.table({"image": self.images}), self.places[rows])
        taken = self.about.take(rows).add_column(0, "image", images["image"])
        return image_tables.with_background(taken, self.background)


class Placed(Sequence):
    """A column in another order, nothing copied."""

    def __init__(self, values: pa.ChunkedArray, places: np.ndarray):
        self.values, self.places = values, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> pa.Scalar:  # type: ignore[override]  # nobody asks for a slice
        return self.values[self.places[row]]


def gather(layout: Layout, manifest: pa.Table) -> Mixture:
    """The images of a mixture, none of them read yet.

    A generated image has the caption of its slot. Raises ValueError when a source no longer holds what the manifest was
    made for.
    """
    layout = layout.of_draw(draw_of(manifest))
    sources, rows = np.array(manifest["source"].to_pylist()), manifest["row"].to_numpy()
    train = image_tables.read(layout.real(REAL))
    captions = train["caption"]
    parts, places, before = [], rows.copy(), 0
    for source in np.unique(sources):
        members = sources == source
        table = image_tables.read(*tables_of(layout, source))
        _require_complete(table, source, int(rows[members].max()))
        if "caption" not in table.column_names:
            table = table.append_column("caption", captions.take(table["slot"]))
        places[members] += before
        before += table.num_rows
        parts.append(table.select(["image", "id", "label", "caption"]))
    images = pa.concat_tables([part.cast(parts[0].schema) for part in parts])
    about = images.drop(["image"]).take(places)
    if not np.array_equal(about["label"].to_numpy(), manifest["label"].to_numpy()):
        raise ValueError("a source of this mixture has changed since it was mixed: run 02_mix again")
    for column in ("source", "slot"):
        about = about.append_column(column, manifest[column])
    return Mixture(about, images["image"], places, image_tables.background(train))


def _require_complete(table: pa.Table, source: str, last_row: int) -> None:
    """Row i of a generated set must be slot i: a lost shard would move every later image to another slot."""
    slots = table["slot"].to_numpy() if "slot" in table.column_names else np.arange(table.num_rows)
    if last_row >= len(slots) or not np.array_equal(slots, np.arange(len(slots))):
        raise ValueError(f"{source} lacks images: run 01_generate or 01_import for it again")

"""Watermarks: what is embedded is found, and nothing else; who has none keeps images and name."""

import functools
import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.base.settings import read_settings
from contamination.commands import verify
from contamination.generators import codecs, pipelines, shards, watermarks
from contamination.networks import detectors
from contamination.report import results, sections
from contamination.runner import notebooks
from contamination.study.study import Study
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from support import tiny_pipelines

pytestmark = pytest.mark.medium

# OpenCV links libraries of the system that bare servers lack; all else works without.
pytest.importorskip("cv2", exc_type=ImportError)

torch.set_num_threads(1)
FAMILY, SLOTS, SIDE, TEXT = "stable-diffusion-1", 8, 64, "Gen1"
colors = st.tuples(*[st.integers(0, 255)] * 3)
texts = st.text(min_size=1, max_size=4)


@functools.cache
def photographs(count: int, side: int) -> np.ndarray:
    """Parts of scikit-learn's two photographs at many scales: uint8 (n, side, side, 3)."""
    rng, found = np.random.default_rng(side), []
    for number in range(count):
        image = Image.fromarray(load_sample_images().images[number % 2])
        edge = int(rng.integers(60, 427))
        left, top = rng.integers(640 - edge + 1), rng.integers(427 - edge + 1)
        part = image.crop((left, top, left + edge, top + edge))
        found.append(np.asarray(part.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(found)


@functools.cache
def marked(count: int, side: int, text: str = TEXT) -> list[np.ndarray]:
    return [watermarks.embed(image, text) for image in photographs(count, side)]


def stored(images, codec=codecs.PNG):
    """Images as a study reads them back."""
    return torch.stack([image_tables.decode(codecs.encode(image, codec), len(image)) for image in images])


def read(images, codec=codecs.PNG, text=TEXT) -> np.ndarray:
    return watermarks.agreement(stored(images, codec), text)


def found(*arguments, **more) -> float:
    return float(np.mean(read(*arguments, **more) > watermarks.threshold()))


# The mark


@pytest.mark.parametrize("side", [48, 64, 100, 224])
def test_what_is_embedded_is_found_in_every_image(side):
    assert found(marked(16, side)) == 1
    assert read(marked(16, side)).mean() > 0.99


@trials(max_examples=15)
@given(texts, st.integers(6, 9), st.integers(6, 9))
def test_any_text_is_found_in_an_image_of_any_shape_with_room(text, rows, columns):
    image = photographs(1, 100)[0][: 8 * rows + 3, : 8 * columns + 5]
    pixels = torch.from_numpy(watermarks.embed(image, text)).permute(2, 0, 1)[None]
    assert watermarks.agreement(pixels, text) > watermarks.threshold()


# Shares measured on these photographs, less what 24 images may vary by.
@pytest.mark.parametrize(
    ("side", "codec", "least"),
    [
        (64, {"format": "JPEG", "quality": 95}, 0.85),
        (64, {"format": "JPEG", "quality": 75, "subsampling": 0}, 0.85),
        (224, {"format": "JPEG", "quality": 75}, 0.95),
        (224, {"format": "WEBP", "quality": 90}, 0.9),
    ],
)
def test_it_outlives_the_usual_codecs(side, codec, least):
    assert found(marked(24, side), codec) >= least


def test_a_strong_codec_loses_bits_and_makes_none_up():
    weak, strong = (read(marked(24, SIDE), {"format": "JPEG", "quality": quality}).mean() for quality in (95, 30))
    assert 0.4 < strong < 0.7 < weak


@pytest.mark.parametrize("side", [48, 64, 100])
def test_unmarked_images_are_taken_for_marked_ones_no_more_often_than_stated(side):
    said = watermarks.bits_in(stored(photographs(80, side)))
    shares = np.stack([np.mean(said == watermarks.bits_of(f"text {number}"), axis=1) for number in range(200)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert np.mean(shares > watermarks.threshold()) <= watermarks.BY_CHANCE


@trials(max_examples=20)
@given(texts, colors)
def test_an_image_of_one_color_agrees_with_half_of_any_mark(text, color):
    plain = torch.tensor(color, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 48, 48)
    assert watermarks.agreement(plain, text) == 0.5


def test_another_text_is_not_found_however_like_it_is():
    others = ["Gen2", "gen1", "Gen", "Gen1 ", "1neG"]
    assert all(found(marked(16, 100), text=text) == 0 for text in others)


def test_texts_agree_with_each_other_as_chance_has_it():
    bits = np.array([watermarks.bits_of(str(number)) for number in range(150)])
    shares = np.mean(bits[:, None] == bits, axis=2)[np.triu_indices(150, 1)]
    assert (bits.sum(axis=1) == watermarks.BITS // 2).all()
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert np.mean(shares > watermarks.threshold()) < 2 * watermarks.BY_CHANCE


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 0, 0), (0, 255, 0)])
def test_a_plain_background_carries_it_too(color):
    images = photographs(8, SIDE).copy()
    images[:, :, : SIDE * 4 // 5] = color
    assert found([watermarks.embed(image, TEXT) for image in [*images, np.full_like(images[0], color)]]) == 1


@pytest.mark.parametrize("side", [48, 224])
def test_it_cannot_be_seen(side):
    apart = np.abs(np.stack(marked(16, side)).astype(int) - photographs(16, side))
    assert apart.max() <= 10 and apart.mean() < 1.5


def test_the_packages_own_decoder_reads_it():
    from imwatermark import WatermarkDecoder

    for image in marked(4, 256):
        bits = WatermarkDecoder("bits", watermarks.BITS).decode(image[..., ::-1], "dwtDctSvd")
        assert np.array_equal(bits, watermarks.bits_of(TEXT))


def test_an_image_without_room_is_one_clear_line():
    message = r"an image of 47x48 pixels has no room .*: leave the watermark out, or have images of at least 48x48"
    with pytest.raises(ValueError, match=message) as caught:
        watermarks.embed(np.zeros((47, 48, 3), dtype=np.uint8), TEXT)
    assert "\n" not in str(caught.value)
    assert watermarks.embed(np.zeros((32, 64, 3), dtype=np.uint8), TEXT).shape == (32, 64, 3)
    with pytest.raises(ValueError, match="an image of 40x40 pixels has no room"):
        watermarks.agreement(torch.zeros((1, 3, 40, 40), dtype=torch.uint8), TEXT)


def test_the_p_value_is_the_tail_of_tosses_of_a_coin():
    for agreeing in range(watermarks.BITS + 1):
        tail = sum(math.comb(watermarks.BITS, count) for count in range(agreeing, watermarks.BITS + 1))
        assert watermarks.chance(agreeing / watermarks.BITS) == pytest.approx(tail / 2**watermarks.BITS)
    least = round(watermarks.threshold() * watermarks.BITS)
    assert watermarks.false_positives() == watermarks.chance((least + 1) / watermarks.BITS) <= watermarks.BY_CHANCE
    assert watermarks.chance(least / watermarks.BITS) > watermarks.BY_CHANCE


# Generated sets


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny_pipelines.save(FAMILY, tmp_path_factory.mktemp("saved") / FAMILY)


def asked_for() -> dict:
    slots = {"slot": list(range(SLOTS)), "label": [slot % 2 for slot in range(SLOTS)]}
    slots["prompt"] = [f"photo of {slot}" for slot in range(SLOTS)]
    slots["seed"] = [shards.image_seed(0, slot) for slot in range(SLOTS)]
    return slots


def generate(saved, source: str, text: str):
    """A set drawn as 01_generate draws it, in two shards. Returns its files."""
    loading = {"scheduler": "", "dtype": "float32"}
    pipeline = pipelines.load(saved, device="cpu", **loading)
    settings = tiny_pipelines.settings_of(FAMILY, pipeline, size=SIDE)
    common = pipelines.provenance(saved, str(saved), pipeline=pipeline, settings=settings)
    how = {"loading": loading, "settings": settings, "common": common, "image_size": SIDE, "codec": codecs.PNG}
    how |= {"code": shards.code_hash(text)} | watermarks.described(text)
    folder, slots = Layout("outputs/study").generated(source), asked_for()
    paths = shards.paths_of(folder, SLOTS, shard_size=4)
    for path in shards.claim(folder, paths, how=how):
        rows = slice(4 * paths.index(path), 4 * paths.index(path) + 4)
        shards.write(
            path, pipeline, slots={name: column[rows] for name, column in slots.items()}, how=how, batch_size=4
        )
    return paths


def pixels(paths):
    return image_tables.decode_all(image_tables.read(*paths), SIDE)


def test_a_set_with_a_watermark_has_it_in_every_image_and_is_otherwise_the_same(saved, project):
    plain, made = generate(saved, "plain", ""), generate(saved, "marked", TEXT)
    assert (watermarks.agreement(pixels(made), TEXT) > watermarks.threshold()).all()
    assert not (watermarks.agreement(pixels(plain), TEXT) > watermarks.threshold()).any()
    assert (pixels(made).int() - pixels(plain).int()).abs().max() <= 10
    assert image_tables.read(*made)["seed"] == image_tables.read(*plain)["seed"]


def test_its_text_is_provenance_and_a_set_without_one_says_nothing_of_it(saved, project):
    plain, made = generate(saved, "plain", ""), generate(saved, "marked", TEXT)
    assert image_tables.read(*made)["watermark"].to_pylist() == [TEXT] * SLOTS
    how = json.loads(image_tables.metadata(made[0])["how"])
    assert how["watermark"] == TEXT and how["watermark_by"].startswith("invisible-watermark ")
    assert "watermark" not in image_tables.read(*plain).column_names
    assert not any("watermark" in key for key in json.loads(image_tables.metadata(plain[0])["how"]))


def test_another_text_is_another_set_and_is_drawn_again(saved, project):
    first = [path.read_bytes() for path in generate(saved, "set", TEXT)]
    assert [path.read_bytes() for path in generate(saved, "set", TEXT)] == first
    assert [path.read_bytes() for path in generate(saved, "set", "Gen2")] != first
    assert shards.code_hash("a") == shards.code_hash("b") != shards.code_hash() == shards.code_hash("")


def test_a_set_with_a_watermark_is_verified_as_any_other(saved, project):
    generate(saved, "marked", TEXT)
    record = verify.verify(Layout("outputs/study"), "marked", slots=asked_for(), device="cpu", sample=SLOTS)
    assert record["problems"] == [] and record["verdict"] in (verify.EQUAL, verify.ROUNDED)
    assert any(sentence.startswith("a watermark: ") for sentence in record["expected"])


# The study


@pytest.fixture
def changed(project):
    """The smoke study at 48 pixels with a second set, and changes to `generate`, to that set and to `detect`."""

    def load(watermark="", of_second=None, detect=None) -> Study:
        content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
        content["data"]["image_size"] = 48
        content["generate"]["watermark"] = watermark
        second = {"style": "diverse", "guidance": 2.0}
        content["grid"]["generated"]["second"] = second | ({} if of_second is None else {"generate": of_second})
        content["detect"] |= detect or {}
        return read_settings(Study, content)

    return load


@pytest.mark.parametrize(
    ("watermark", "of_second", "looked_for"),
    [
        (TEXT, None, {"class-name-7.5": TEXT, "second": TEXT, "pool": TEXT}),
        ("", {"watermark": "B"}, {"class-name-7.5": "B", "second": "B", "pool": "B"}),
        (TEXT, {"watermark": "B"}, {"class-name-7.5": TEXT, "second": "B", "pool": TEXT}),
        (TEXT, {"watermark": ""}, {"class-name-7.5": TEXT, "second": TEXT, "pool": TEXT}),
        ("", None, {"class-name-7.5": "", "second": "", "pool": ""}),
    ],
)
def test_a_detector_looks_for_its_sets_text_or_else_for_the_first(changed, watermark, of_second, looked_for):
    study = changed(watermark, of_second)
    for source, text in looked_for.items():
        assert study.parameters("detect", source=source)["watermark"] == text


def test_looking_for_a_watermark_that_no_set_has_is_refused(changed):
    asked = {"detectors": ["spectrum", "watermark"]}
    with pytest.raises(ValueError, match="no generated set has one"):
        changed(detect=asked)
    assert changed(of_second={"watermark": "B"}, detect=asked).detect.detectors == asked["detectors"]


# Detection


def image_table(path, images, labels, **columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [image_tables.encode(image) for image in images]
    image_tables.write(
        path, encoded, columns={"id": [f"{path.stem}-{row}" for row in range(len(encoded))], "label": labels} | columns
    )


@pytest.fixture
def layout(project) -> Layout:
    """40 slots, of photographs, with a marked set and one without, and a pool."""
    layout, real = Layout("outputs/small"), photographs(120, 48)
    labels, slots = np.arange(40) % 2, np.arange(40)
    image_table(layout.real("train"), real[:40], labels)
    image_table(layout.real("pool"), real[40:80], labels)
    sets = {"plain": real[80:], "marked": [watermarks.embed(image, TEXT) for image in real[80:]]}
    for source, images in sets.items():
        image_table(layout.generated(source) / "shard-00000.arrow", images, labels, slot=slots)
    return layout


def test_the_detector_finds_what_is_marked_and_neither_real_images_nor_sets_without(layout):
    settings = detectors.Detect(detectors=["watermark"]).model_dump()
    for source, true_positive_rate in {"marked": 1, "plain": 0, "pool": 0}.items():
        given = detectors.examples(layout, source, most=1000, seed=0)
        detector = detectors.fit_detector(
            "watermark", given, settings=settings, seed=0, device=torch.device("cpu"), watermark=TEXT
        )
        test = given.of("test")
        evidence = detector.evidence(test.pixels)
        assert evidence.dtype == np.float64 and detector.threshold == watermarks.threshold()
        rows = detectors.score(evidence, test.generated, test.slot, detector.threshold, 20, 0)
        scores = {row["metric"]: row["value"] for row in rows}
        assert (scores["true_positive_rate"], scores["false_positive_rate"]) == (true_positive_rate, 0), source
        assert scores["accuracy"] == (1 + true_positive_rate) / 2


def test_without_a_text_there_is_nothing_to_look_for(layout):
    given = detectors.examples(layout, "plain", most=1000, seed=0)
    with pytest.raises(ValueError, match="detector watermark: give the text to look for"):
        detectors.fit_detector(
            "watermark", given, settings=detectors.Detect().model_dump(), seed=0, device=torch.device("cpu")
        )


def test_the_report_tells_how_often_it_is_found_set_by_set(changed):
    study = changed(TEXT, {"watermark": ""}, {"detectors": ["watermark"]})
    rows = []
    for trained in ("class-name-7.5", "second", "pool"):
        for tested in {trained, "class-name-7.5"} if trained != "pool" else {"pool"}:
            hits = 0.95 if tested == "class-name-7.5" else 0.01
            values = {
                "accuracy": 0.5 + hits / 2,
                "average_precision": 0.5,
                "true_positive_rate": hits,
                "false_positive_rate": 0.01,
            }
            what = {"task": "detect", "model": "watermark", "source": trained, "draw": 0, "split": tested, "n": 300}
            ends = {"low": -0.01, "high": 0.02}
            rows += [
                what | {"metric": name, "value": value} | {end: value + by for end, by in ends.items()}
                for name, value in values.items()
            ]
    table = pd.DataFrame(rows).reindex(columns=results.COLUMNS)
    (sentence,) = sections.load("detect").sentences(table, study)
    assert "found in 95.0 % (94.0 to 97.0) of class-name-7.5, 1.0 % (0.0 to 3.0) of second" in sentence
    assert "in 1.0 % (0.0 to 3.0) of the real images in their slots, where by chance it would be in 0.03 %" in sentence
    (drawn,) = sections.load("detect").draw(table, study)
    assert "it looks for the text that the first set is marked with" in drawn.caption


@pytest.mark.slow
def test_the_notebooks_embed_it_and_find_it(project, saved):
    for split, first in {"pool": 0, "train": 40, "test": 80}.items():
        for name, images in zip(
            ("left", "right"), np.split(photographs(120, SIDE)[first : first + 40], 2), strict=True
        ):
            (project / split / name).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(project / split / name / f"{number}.png")
    layout, data = Layout("outputs/small"), {"source": "folders", "image_size": SIDE}
    sources.prepare(layout, data | {split: split for split in sources.SPLITS}, 0)
    asked = {"outputs": "outputs/small", "source": "marked"}
    drawing = {"pipeline": str(saved), "steps": 3, "guidance": 4.0, "size": SIDE, "image_size": SIDE}
    log, made = project / "log.ipynb", project / "made.ipynb"
    with pytest.raises(RuntimeError, match="watermark: an image of 16x16 pixels has no room"):
        notebooks.execute(project / "notebooks/01_generate.ipynb", made, asked | {"watermark": TEXT}, log)
    marking = asked | drawing | {"watermark": TEXT}
    notebooks.execute(project / "notebooks/01_generate.ipynb", made, marking, log)
    looking = {"others": {}, "watermark": TEXT, "settings": {"detectors": ["spectrum", "watermark"], "replicates": 20}}
    notebooks.execute(project / "notebooks/02_detect.ipynb", made, asked | looking, log)
    record = json.loads((layout.measured("detect", "marked") / "record.json").read_text())
    rates = {row["metric"]: row["value"] for row in record["scores"] if row["model"] == "watermark"}
    assert (rates["true_positive_rate"], rates["false_positive_rate"]) == (1, 0)
    assert record["parameters"]["watermark"] == TEXT and record["thresholds"]["watermark"] == watermarks.threshold()


def test_a_system_without_opencvs_libraries_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"OpenCV does not load here .*: install the system's libGL") as caught:
        watermarks.embed(np.zeros((64, 64, 3), dtype=np.uint8), TEXT)
    assert "\n" not in str(caught.value)

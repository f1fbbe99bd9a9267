"""The file-format leakage check: what gives a set away is found and named, one container is exactly a coin toss."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from contamination.base import image_tables
from contamination.metrics import file_formats
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

SLOTS = 60
FITTING = np.arange(SLOTS) % 2 == 0
ORDINARY = {"format": "PNG", "width": 16, "height": 16, "mode": "RGB", "chroma": "", "quantization": "", "step": 1}


def draw(seed: int, count: int = SLOTS, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def encode(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def table(files: list[bytes]) -> pa.Table:
    image = pa.array([{"bytes": data, "path": None} for data in files], type=image_tables.IMAGE)
    return pa.table({"image": image, "id": [f"image {row}" for row in range(len(files))]})


def facts(pixels: np.ndarray, **options):
    return file_formats.facts(table([encode(Image.fromarray(image), **options) for image in pixels]))


def fact(image: Image.Image, **options) -> dict:
    return file_formats.facts(table([encode(image, **options)])).iloc[0].to_dict()


def audited(real, generated) -> tuple:
    score = file_formats.audit(real, generated, fitting=FITTING)
    assert score["metric"] == "file_format_accuracy" and score["low"] <= score["value"] <= score["high"]
    assert score["n"] == SLOTS // 2
    return score["value"], score["differing"]


def like(count: int = SLOTS, **columns):
    """A table of facts without images, some of them other than the ordinary."""
    base = pd.DataFrame([ORDINARY | {"metadata": ""}] * count, columns=file_formats.FACTS)
    return base.assign(**columns)


def test_png_against_jpeg_is_always_told_and_named():
    value, differing = audited(facts(draw(0), format="JPEG"), facts(draw(1), format="PNG"))
    assert value == 1 and {"format", "chroma", "quantization"} <= set(differing)
    assert not {"width", "height", "mode", "step"} & set(differing)


def test_another_jpeg_quality_is_told_by_its_tables_alone():
    value, differing = audited(facts(draw(0), format="JPEG", quality=90), facts(draw(1), format="JPEG", quality=80))
    assert value == 1 and differing == ["quantization"]


def test_another_chroma_sampling_is_told_by_it_alone():
    real, generated = (facts(draw(0), format="JPEG", subsampling=name) for name in ("4:2:0", "4:4:4"))
    assert audited(real, generated) == (1, ["chroma"])
    assert set(real["chroma"]) == {"2x2 1x1 1x1"} and set(generated["chroma"]) == {"1x1 1x1 1x1"}


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "JPEG", "quality": 75}])
def test_one_container_is_exactly_a_coin_toss(options):
    score = file_formats.audit(facts(draw(0), **options), facts(draw(1), **options), fitting=FITTING)
    assert score["value"] == 0.5 and score["low"] < 0.5 < score["high"] and score["differing"] == []


def test_the_tables_of_a_study_are_one_container(tmp_path):
    image_tables.write(
        tmp_path / "t.arrow", [image_tables.encode(image) for image in draw(0, 3)], columns={"id": ["a", "b", "c"]}
    )
    found = file_formats.facts(image_tables.read(tmp_path / "t.arrow"))
    assert list(found) == file_formats.FACTS
    assert found.drop_duplicates().to_dict("records") == [ORDINARY | {"width": 12, "height": 12, "metadata": ""}]


def test_thirty_two_levels_are_told_by_the_step():
    generated = facts(draw(1) // 8 * 8 + 3, format="PNG")
    assert audited(facts(draw(0), format="PNG"), generated) == (1, ["step"])
    assert set(generated["step"]) == {8}


@given(st.integers(1, 60), st.integers(0, 15), st.integers(0, 10_000))
@settings(max_examples=30)
def test_the_step_is_the_greatest_common_divisor_of_the_differences(step, offset, seed):
    levels = np.random.default_rng(seed).integers(0, 1 + (255 - offset) // step, (5, 4, 3))
    found = fact(Image.fromarray((offset + step * levels).astype(np.uint8)), format="PNG")["step"]
    differences = step * (levels.reshape(-1, 3) - levels.reshape(-1, 3)[0])
    assert found == np.gcd.reduce(differences.ravel()) and found % step == 0


def test_an_image_of_one_color_has_no_step_and_does_not_give_its_set_away():
    blank = np.full((SLOTS, 12, 12, 3), (10, 200, 30), dtype=np.uint8)
    generated = facts(blank, format="PNG")
    assert set(generated["step"]) == {0}
    assert audited(facts(draw(0), format="PNG"), generated) == (0.5, [])


def test_opacity_and_the_numbers_of_a_palette_are_no_levels():
    coarse = Image.fromarray(draw(0, 1)[0] // 64 * 64)
    opacity = Image.fromarray(draw(1, 1)[0][..., 0])
    see_through = coarse.copy()
    see_through.putalpha(opacity)
    assert fact(see_through, format="PNG")["step"] == 64
    palette = coarse.convert("L").point(lambda level: level // 64 * 64).convert("P")
    assert fact(palette, format="PNG")["step"] == 64


@pytest.mark.parametrize(
    ("mode", "options", "found"),
    [
        ("P", {"format": "PNG"}, {"mode": "P"}),
        ("P", {"format": "GIF"}, {"format": "GIF", "mode": "P"}),
        ("1", {"format": "PNG"}, {"mode": "1", "step": 255}),
        ("LA", {"format": "PNG"}, {"mode": "LA"}),
        ("CMYK", {"format": "JPEG"}, {"mode": "CMYK", "chroma": "1x1 1x1 1x1 1x1"}),
        ("L", {"format": "JPEG"}, {"mode": "L", "chroma": "1x1"}),
        ("RGB", {"format": "WEBP"}, {"format": "WEBP", "chroma": "", "quantization": ""}),
        ("F", {"format": "TIFF"}, {"format": "TIFF", "mode": "F"}),
    ],
)
def test_every_kind_of_image_has_its_facts(mode, options, found):
    image = Image.fromarray(draw(0, 1, 16)[0]).convert("L" if mode == "F" else "RGB").convert(mode)
    facts_of_it = fact(image, **options)
    assert facts_of_it | found | {"width": 16, "height": 16} == facts_of_it


def test_eight_bits_in_a_file_of_sixteen_show_in_the_step():
    deep = np.random.default_rng(0).integers(0, 256, (12, 12)).astype(np.uint16) * 257
    assert fact(Image.fromarray(deep), format="PNG") == ORDINARY | {
        "width": 12, "height": 12, "mode": "I;16", "step": 257, "metadata": ""
    }  # fmt: skip


def test_metadata_is_named_wherever_it_stands():
    image = Image.fromarray(draw(0, 1)[0])
    exif = Image.Exif()
    exif[0x0131] = "a generator"
    assert fact(image, format="PNG", dpi=(72, 72), exif=exif)["metadata"] == "dpi,exif,exif.Software"
    assert {"comment", "exif.Software"} <= set(
        fact(image, format="JPEG", exif=exif, comment="x")["metadata"].split(",")
    )
    behind = encode(image, format="PNG")
    stream = io.BytesIO()
    PngImagePlugin.putchunk(stream, b"tEXt", b"parameters\0photo of three")
    behind = behind[:-12] + stream.getvalue() + behind[-12:]  # 12 bytes: the chunk that ends the file
    assert file_formats.facts(table([behind]))["metadata"].tolist() == ["parameters"]


def test_damaged_exif_does_no_harm():
    data = encode(Image.fromarray(draw(0, 1)[0]), format="JPEG", exif=b"Exif\0\0nonsense")
    assert file_formats.facts(table([data]))["format"].tolist() == ["JPEG"]


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_named(codec, share):
    whole = encode(Image.fromarray(draw(0, 1, 16)[0]), format=codec)
    with pytest.raises(ValueError, match="image 1 cannot be decoded") as caught:
        file_formats.facts(table([whole, whole[: int(share * len(whole))]]))
    assert "\n" not in str(caught.value)


def test_no_images_have_no_facts():
    assert list(file_formats.facts(table([]))) == file_formats.FACTS


def test_a_rare_fact_tells_as_often_as_it_occurs():
    marked = np.where(np.arange(SLOTS) % 4 < 2, "exif", "")  # half of the slots to learn from, half of the others
    value, differing = audited(like(), like(metadata=marked))
    assert value == pytest.approx(0.75) and differing == ["metadata"]


def test_photographs_of_all_sizes_are_told_by_what_they_have_in_common():
    sizes = np.arange(SLOTS)
    value, differing = audited(like(format="JPEG", width=300 + sizes, height=400 + sizes), like())
    assert value == 1 and "format" in differing


def test_what_was_only_seen_in_the_judged_slots_is_a_coin_toss():
    real, generated = (like(width=np.where(FITTING, 16, 100 * side + np.arange(SLOTS))) for side in (1, 2))
    assert audited(real, generated) == (0.5, [])


@pytest.mark.medium
def test_the_same_facts_in_another_order_are_no_more_than_a_coin_toss_on_average():
    rng = np.random.default_rng(0)
    values, covered = [], 0
    for _ in range(60):
        real, generated = (like(width=rng.integers(16, 20, SLOTS)) for _ in range(2))
        score = file_formats.audit(real, generated, fitting=FITTING)
        values.append(score["value"])
        covered += score["low"] <= 0.5 <= score["high"]
    assert np.mean(values) == pytest.approx(0.5, abs=0.025) and covered >= 50


def test_the_audit_judges_both_sides_alike():
    plain, marked = like(), like(metadata=np.where(np.arange(SLOTS) % 3 == 0, "exif", ""))
    assert file_formats.audit(plain, marked, fitting=FITTING) == file_formats.audit(marked, plain, fitting=FITTING)


@pytest.mark.parametrize(
    ("generated", "fitting", "told"),
    [
        (like(SLOTS - 1), FITTING, "60 real images, 59 generated ones and 60 marks of slots"),
        (like(), FITTING[1:], "60 real images, 60 generated ones and 59 marks of slots"),
        (like(), np.flatnonzero(FITTING), "30 marks of slots"),
        (like(), np.ones(SLOTS, dtype=bool), "60 of 60 slots to learn from"),
        (like(), np.zeros(SLOTS, dtype=bool), "0 of 60 slots to learn from"),
    ],
)
def test_what_cannot_be_audited_is_told_in_one_line(generated, fitting, told):
    with pytest.raises(ValueError, match=told) as caught:
        file_formats.audit(like(), generated, fitting=fitting)
    assert "\n" not in str(caught.value)


def test_the_summary_counts_the_images_of_each_combination():
    mixed = like(format=np.where(np.arange(SLOTS) % 3 == 0, "JPEG", "PNG"))
    found = file_formats.summary(**{"train": like(), "class-name-7.5": mixed, "all": like(width=np.arange(SLOTS))})
    assert found[["set", "format", "images"]].head(3).to_numpy().tolist() == [
        ["train", "PNG", 60],
        ["class-name-7.5", "PNG", 40],
        ["class-name-7.5", "JPEG", 20],
    ]
    assert found["set"].value_counts()["all"] == 10

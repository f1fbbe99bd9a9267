"""Erasing, mixup and CutMix: timm's formulas, the same for any number of processes, nothing where nothing is asked."""

import numpy as np
import pytest
import torch
from contamination.base.settings import read_settings
from contamination.networks import timm_models
from contamination.tasks import classification
from contamination.training import mixup
from contamination.training.loop import SharedRandom
from contamination.training.reader import InMemoryImages
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from timm.data import Mixup
from timm.data.mixup import cutmix_bbox_and_lam
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy

CPU = torch.device("cpu")
NOTHING = {"mixup": 0.0, "cutmix": 0.0}
KINDS = [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}]


def batch(count=8, side=16):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator) * 2 - 1, torch.arange(count) % 5


def draws(number=0, process=0, count=1, seed=0):
    made = SharedRandom(seed, CPU, process, count)
    made.batch = number
    return made


class Fixed:
    """A generator that gives these integers."""

    def __init__(self, *values):
        self.values = list(values)

    def integers(self, high):
        return self.values.pop(0)


# Mixup and CutMix


def test_where_nothing_is_asked_images_and_loss_are_untouched():
    images, labels = batch()
    same, targets = mixup.mix(images, labels, recipe=NOTHING, draws=draws())
    assert same is images and mixup.erase(images, 0.0, draws=draws()) is images
    scores = torch.randn(8, 5, requires_grad=True)
    plain = torch.nn.functional.cross_entropy(scores, labels, label_smoothing=0.1)
    found = mixup.cross_entropy(scores, targets, smoothing=0.1)
    assert torch.equal(found, plain)
    assert torch.equal(*(torch.autograd.grad(each, scores)[0] for each in (found, plain)))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("kind", KINDS[:2])
def test_images_and_loss_of_two_are_those_of_timm(kind, number, monkeypatch):
    images, labels = batch(2)  # in timm the first image meets the last, here its neighbor
    mixed, targets = mixup.mix(images, labels, recipe=NOTHING | kind, draws=draws(number))
    timms = Mixup(label_smoothing=0.1, num_classes=5)
    if "cutmix" in kind:
        rng = draws(number).together()
        rng.random()
        given, centers = rng.beta(1.0, 1.0), iter(rng.integers(16, size=2))
        monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: next(centers))
    else:
        given = targets[0][1]
    monkeypatch.setattr(timms, "_params_per_batch", lambda: (given, "cutmix" in kind))
    expected, soft = timms(images.clone(), labels)
    assert torch.allclose(mixed, expected, atol=1e-6)
    scores = torch.randn(2, 5, generator=torch.Generator().manual_seed(number))
    assert mixup.cross_entropy(scores, targets, smoothing=0.1).item() == pytest.approx(
        SoftTargetCrossEntropy()(scores, soft).item(), rel=1e-5
    )


@given(st.integers(4, 40), st.integers(4, 40), st.floats(0, 1), st.data())
def test_a_box_and_its_share_are_those_of_timm(height, width, share, data):
    centers = [data.draw(st.integers(0, side - 1)) for side in (height, width)]
    slices, outside = mixup.box((height, width), share, rng=Fixed(*centers))
    with pytest.MonkeyPatch.context() as patch:
        values = iter(centers)
        patch.setattr(np.random, "randint", lambda low, high, size=None: next(values))
        (top, bottom, left, right), expected = cutmix_bbox_and_lam((3, height, width), share)
    assert slices == [slice(top, bottom), slice(left, right)] and outside == pytest.approx(expected)


@given(st.sampled_from(KINDS), st.integers(0, 1000))
def test_the_shares_of_the_two_labels_are_those_of_the_two_images(kind, number):
    images = torch.tensor([0.0, 1.0]).repeat(3)[:, None, None, None].expand(-1, 3, 16, 16)
    mixed, targets = mixup.mix(images, torch.arange(6), recipe=NOTHING | kind, draws=draws(number))
    (first, share), (second, other) = targets
    assert share + other == pytest.approx(1) and 0 <= share <= 1
    assert first.tolist() == [0, 1, 2, 3, 4, 5] and second.tolist() == [1, 0, 3, 2, 5, 4]
    assert mixed[1::2].mean().item() == pytest.approx(share, abs=1e-5)  # the ones among these are what is their own
    assert mixed[::2].mean().item() == pytest.approx(1 - share, abs=1e-5)


def shares(kind, count=600):
    images, labels = batch(2, 64)
    made = [mixup.mix(images, labels, recipe=NOTHING | kind, draws=draws(number)) for number in range(count)]
    return np.array([targets[0][1] for _, targets in made]), [mixed for mixed, _ in made], images


def test_shares_of_mixup_follow_the_beta_distribution():
    found, _, _ = shares({"mixup": 0.8})
    assert stats.kstest(found, stats.beta(0.8, 0.8).cdf).pvalue > 1e-3


def test_where_both_are_given_each_is_as_likely():
    _, mixed, images = shares({"mixup": 0.8, "cutmix": 1.0})
    cut = [bool(((each == images) | (each == images.flip(0))).all()) for each in mixed]
    assert stats.binomtest(sum(cut), len(cut)).pvalue > 1e-3


@pytest.mark.medium
@given(st.sampled_from(KINDS), st.sampled_from([2, 4]), st.integers(0, 50))
def test_several_processes_mix_and_erase_as_one_would(kind, count, number):
    images, labels = batch(8)

    def done(process=0, count=1):
        rows = slice(process * 8 // count, (process + 1) * 8 // count)
        numbers = draws(number, process, count)
        mixed, targets = mixup.mix(
            mixup.erase(images[rows], 0.5, draws=numbers), labels[rows], recipe=NOTHING | kind, draws=numbers
        )
        return mixed, targets[1][0]

    whole, parts = done(), [done(process, count) for process in range(count)]
    for one, several in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(several))


@pytest.mark.parametrize(
    ("changes", "multiple"), [({}, 2), ({"processes": 2}, 4), ({"processes": 2, "accumulation": 5}, 20)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_a_batch_that_is_odd_is_refused_in_one_line(kind, changes, multiple):
    read_settings(classification.Train, kind | changes | {"batch_size": 60})
    with pytest.raises(ValueError, match=f"multiple of {multiple}, twice") as caught:
        read_settings(
            classification.Train, kind | changes | {"batch_size": 60 + multiple // 2}, key="train.classification"
        )
    assert "\n" not in str(caught.value)


# Erasing


def erased(probability, count=1500, side=32):
    """Images of -2, which no noise is, after erasing; and which of their pixels were erased, (n, side, side)."""
    images = mixup.erase(torch.full((count, 3, side, side), -2.0), probability, draws=draws())
    changed = images != -2
    assert torch.equal(changed.any(dim=1), changed.all(dim=1))
    return images, changed.all(dim=1)


def test_what_is_erased_of_an_image_is_a_rectangle_of_noise():
    images, gone = erased(1.0, 200)
    for mask in gone:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        inside = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert inside.all() and mask.sum() == inside.numel()
    noise = images.permute(1, 0, 2, 3)[:, gone]
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(mixup.NOISE, abs=0.01)


@pytest.mark.parametrize("probability", [0.25, 0.7])
def test_as_many_images_are_erased_as_asked(probability):
    _, gone = erased(probability)
    count = int(gone.flatten(1).any(dim=1).sum())
    assert stats.binomtest(count, len(gone), probability).pvalue > 1e-3


def test_erased_rectangles_are_of_the_sizes_and_places_of_timm():
    torch.manual_seed(0)
    side, count = 32, 1500
    timms = RandomErasing(1.0, mode="pixel", device="cpu")(torch.full((count, 3, side, side), -2.0))[:, 0] != -2
    ours = erased(1.0, count, side)[1]
    for quantity in (lambda each: each.float().mean(dim=(1, 2)), lambda each: each.any(dim=2).float().mean(dim=1)):
        assert stats.ks_2samp(quantity(ours), quantity(timms)).pvalue > 1e-3
    assert torch.allclose(ours.float().mean(dim=0), timms.float().mean(dim=0), atol=0.08)


# Both, in a training


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_changes_no_image(kind):
    images, labels = batch()

    def done(mixed):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            return mixup.mix(mixup.erase(images, 0.5, draws=draws(3)), labels, recipe=NOTHING | kind, draws=draws(3))

    plain, found = done(False), done(True)
    assert torch.equal(plain[0], found[0]) and plain[1][0][1] == found[1][0][1]


@pytest.mark.medium
def test_a_network_learns_from_mixed_and_erased_images():
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    pixels = (labels * 200).to(torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    options = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 4}
    model = timm_models.build("resnet10t", options, classes=2)
    given = {"steps": 60, "batch_size": 10, "learning_rate": 1e-2, "mixup": 0.8, "cutmix": 1.0, "erasing": 0.25}
    recipe = read_settings(classification.Train, given).model_dump()
    fitted, _ = classification.fit_labels(model, InMemoryImages(pixels), labels, recipe, 0, CPU)
    assert (timm_models.predict(fitted, [pixels], device=CPU).argmax(dim=1) == labels).all()

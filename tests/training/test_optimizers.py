"""Optimizer and schedule: the published ones, with what is left at its default exactly as it was."""

import pytest
import timm
import torch
from contamination.base.settings import read_settings
from contamination.training import optimizers
from contamination.training.settings import Optimization
from hypothesis import given
from hypothesis import strategies as st
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler

SMALL = {
    "resnet18": {},
    "convnext_atto": {},
    "swin_tiny_patch4_window7_224": {
        "img_size": 32,
        "embed_dim": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
    },
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 1},
}


def recipe(**changes) -> dict:
    return read_settings(Optimization, changes).model_dump()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))


def after(model, optimizer, steps=5):
    """The weights after some steps on random images."""
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(8, 6)).square().sum().backward()
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_defaults_give_the_very_numbers_of_plain_adamw(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = optimizers.make_optimizer(model, recipe())
    found = after(model, optimizer)
    assert len(optimizer.param_groups) == 1
    model.load_state_dict(state)
    plain = torch.optim.AdamW(list(model.parameters()), lr=4e-3, weight_decay=0.05, fused=True)
    assert torch.equal(found, after(model, plain))


def test_sgd_is_that_of_torch_with_nesterovs_momentum(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    given = recipe(optimizer="sgd", momentum=0.8, weight_decay=0.01, learning_rate=0.02)
    found = after(model, optimizers.make_optimizer(model, given))
    model.load_state_dict(state)
    plain = torch.optim.SGD(model.parameters(), 0.02, momentum=0.8, nesterov=True, weight_decay=0.01)
    assert torch.allclose(found, after(model, plain), atol=1e-6)


def test_sgd_without_momentum_is_sgd(model):
    assert len(after(model, optimizers.make_optimizer(model, recipe(optimizer="sgd", momentum=0.0))))


@pytest.mark.parametrize("name", SMALL)
def test_only_matrices_are_decayed_as_timm_has_it(name):
    network = timm.create_model(name, num_classes=3, **SMALL[name])
    spared = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    reference = {group["weight_decay"]: group for group in param_groups_weight_decay(network, 0.05, True, spared)}
    found = {group["weight_decay"]: group for group in optimizers.weight_groups(network, recipe(decay="matrices"))}
    for decay in (0.05, 0.0):
        assert set(map(id, found[decay]["params"])) == set(map(id, reference[decay]["params"]))


def test_positions_and_tokens_of_transformers_are_not_decayed():
    from transformers import BlipVisionConfig, BlipVisionModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    encoder = BlipVisionModel(BlipVisionConfig(**sizes, image_size=16, patch_size=8))
    spared = {name for name, weight in encoder.named_parameters() if not optimizers.is_matrix(name, weight)}
    assert {"embeddings.class_embedding", "embeddings.position_embedding"} <= spared
    assert all(name.endswith(("weight", "bias", "embedding")) for name in spared)
    assert "embeddings.patch_embedding.weight" not in spared


def test_weights_that_are_not_trained_are_in_no_group(model):
    model[0].requires_grad_(False)
    for decay in ("all", "matrices"):
        groups = optimizers.weight_groups(model, recipe(decay=decay))
        assert sum(len(group["params"]) for group in groups) == 4


def rates(given: dict, until: int | None = None, state=None) -> tuple[list[float], dict]:
    """The learning rate of each step, and the schedule's state after the last."""
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.AdamW([weight], lr=given["learning_rate"])
    schedule = optimizers.make_schedule(optimizer, given)
    if state:
        schedule.load_state_dict(state)
    found = []
    for _ in range(until or given["steps"]):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found, schedule.state_dict()


def test_cosine_without_warm_up_is_that_of_torch():
    given = recipe(schedule="cosine", steps=40)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=given["learning_rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    plain = []
    for _ in range(40):
        plain.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(given)[0] == pytest.approx(plain)


def test_cosine_after_the_warm_up_is_that_of_timm():
    given = recipe(schedule="cosine", steps=50, warmup_steps=10, final_rate=0.1, learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    plain = CosineLRScheduler(optimizer, 40, lr_min=0.03, warmup_t=10, warmup_prefix=True)
    assert rates(given)[0][10:] == pytest.approx([plain._get_lr(step)[0] for step in range(10, 50)])


@given(st.integers(1, 60), st.integers(0, 59), st.floats(0, 1))
def test_the_rate_rises_in_equal_parts_and_falls_to_the_last_share(steps, warmup, final):
    warmup = min(warmup, steps - 1)
    given = recipe(schedule="cosine", steps=steps, warmup_steps=warmup, final_rate=final)
    found = [optimizers.share_of_rate(step, given) for step in range(steps)]
    assert found[:warmup] == [(step + 1) / warmup for step in range(warmup)]
    assert found[warmup] == 1 and all(a >= b for a, b in zip(found[warmup:], found[warmup + 1 :], strict=False))
    assert all(final - 1e-9 <= share <= 1 for share in found[warmup:])


def test_a_final_rate_of_1_is_a_constant_rate():
    assert set(rates(recipe(schedule="cosine", steps=30, final_rate=1.0))[0]) == {4e-3}


@pytest.mark.parametrize("given", [{"schedule": "one_cycle"}, {"schedule": "cosine", "warmup_steps": 4}])
def test_a_schedule_goes_on_where_it_was_left(given):
    given = recipe(steps=20, **given)
    whole, _ = rates(given)
    first, state = rates(given, until=7)
    assert first + rates(given, until=13, state=state)[0] == whole


@given(st.floats(0.01, 10))
def test_clipping_limits_the_norm_of_all_gradients_together(limit):
    layer = torch.nn.Linear(4, 4)
    layer(torch.ones(1, 4)).sum().backward()
    before = torch.nn.utils.get_total_norm([weight.grad for weight in layer.parameters()])
    optimizers.clip(layer, recipe(clip_norm=limit))
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in layer.parameters()])
    assert norm == pytest.approx(min(limit, before.item()), rel=1e-4)


def test_without_a_limit_gradients_are_left_alone():
    layer = torch.nn.Linear(4, 4)
    layer(torch.full((1, 4), 1e6)).sum().backward()
    before = layer.weight.grad.clone()
    optimizers.clip(layer, recipe())
    assert torch.equal(layer.weight.grad, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine", "warmup_steps": 20, "steps": 20}, "warmup_steps 20 must be fewer than the 20 steps"),
        ({"warmup_steps": 5}, "warmup_steps is of schedule: cosine, and here it is one_cycle"),
        ({"final_rate": 0.1}, "final_rate is of schedule: cosine, and here it is one_cycle"),
        ({"momentum": 0.5}, "momentum is of optimizer: sgd, and here it is adamw"),
        ({"optimizer": "sgd", "betas": [0.9, 0.95]}, "betas is of optimizer: adamw, and here it is sgd"),
        ({"betas": [0.9]}, "betas: .*at least 2 items"),
        ({"betas": [0.9, 1.0]}, r"betas\.1: 1\.0: .*less than 1"),
        ({"optimizer": "lion"}, "optimizer: 'lion': .*'adamw' or 'sgd'"),
        ({"decay": "some"}, "decay: 'some': .*'all' or 'matrices'"),
        ({"clip_norm": -1}, "clip_norm: -1: .*greater than or equal to 0"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        recipe(**changes)
    assert "\n" not in str(caught.value)

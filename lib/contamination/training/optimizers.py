"""The optimizer of a training and its learning rate."""

import math

POSITIONS = ("pos_embed", "position_embedding", "relative_position")  # in names of timm and transformers


def make_optimizer(model, recipe: dict):
    """The optimizer of all weights that are trained. recipe: the fields of `settings.Optimization`.

    SGD's momentum is Nesterov's. Its weight decay is added to the gradient, AdamW's is taken off the weights.
    """
    import torch

    groups, rate = weight_groups(model, recipe), recipe["learning_rate"]
    if recipe["optimizer"] == "sgd":
        momentum = recipe["momentum"]
        return torch.optim.SGD(groups, rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW(groups, rate, betas=tuple(recipe["betas"]), fused=True)


def weight_groups(model, recipe: dict) -> list[dict]:
    """The weights that are trained, each group with its weight decay."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if recipe["decay"] == "all":
        return [{"params": list(trained.values()), "weight_decay": recipe["weight_decay"]}]
    decayed = {name: is_matrix(name, weight) for name, weight in trained.items()}
    groups = {decay: [trained[name] for name in trained if decayed[name] == decay] for decay in (True, False)}
    return [
        {"params": group, "weight_decay": recipe["weight_decay"] if decay else 0.0}
        for decay, group in groups.items()
        if group
    ]


def is_matrix(name: str, weight) -> bool:
    """Whether a weight is a matrix or a kernel, and no bias, norm, class token, scale of a layer or position."""
    return sum(length > 1 for length in weight.shape) > 1 and not any(part in name for part in POSITIONS)


def make_schedule(optimizer, recipe: dict):
    """The learning rate over the steps: one-cycle (30 % rise, then cosine to zero), or cosine with a linear warm-up."""
    import torch

    if recipe["schedule"] == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], total_steps=recipe["steps"] + 1)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, recipe))


def share_of_rate(step: int, recipe: dict) -> float:
    """Which share of the learning rate the cosine schedule takes at a step, counted from 0.

    It rises in equal parts over `warmup_steps` (Goyal et al. 2017), then falls along half a cosine to `final_rate`
    (Loshchilov & Hutter, ICLR 2017, eq. 5), which it would reach one step after the last.
    """
    warmup, final = recipe["warmup_steps"], recipe["final_rate"]
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (recipe["steps"] - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def clip(model, recipe: dict) -> None:
    """Limit the norm of all gradients together, where the recipe does."""
    import torch

    if recipe["clip_norm"]:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_norm"])

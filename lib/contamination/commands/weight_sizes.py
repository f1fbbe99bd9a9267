"""Bytes of the weights of timm models.

`python -m contamination.commands.weight_sizes '{"models": {NAME: [...]}, "classes": 10}'` prints them as
JSON. In a process of its own, for it loads torch, which takes seconds.
"""

import gc
import json
import os
import sys

HEADER = 30_000  # bytes of a file of weights beside them, for a few hundred


def count(models: dict[str, tuple[str, dict]], classes: int) -> dict[str, int]:
    """Of each model, built without memory for its weights. models: architecture and options."""
    import torch

    from contamination.networks import timm_models

    found = {}
    for name, (architecture, options) in models.items():
        with torch.device("meta"):
            state = timm_models.build(architecture, options, classes=classes).state_dict()
        found[name] = HEADER + sum(weight.numel() * weight.element_size() for weight in state.values())
    return found


if __name__ == "__main__":
    gc.disable()  # a fifth of the time that loading torch takes
    asked = json.loads(sys.argv[1])
    print(json.dumps(count(asked["models"], asked["classes"])), flush=True)
    os._exit(0)  # to take torch down in order takes half a second

"""The tasks that a mixture is judged by, one module each.

Every module offers

- `NEEDS`: the columns, `label` or `caption`, that a source must really have;
- `USES_OOD_SETS`: whether it is scored on the out-of-distribution test sets too;
- `Train`, `Evaluate`: its parameters in 03_train and 04_evaluate, as typed sections with defaults;
- `check(study)`: raises ValueError, before any work, for what cannot work;
- `train(recipe, images, layout, seed, device, checkpoint)`: the trained torch module and its history;
- `evaluate(settings, recipe, weights, layout, seed, device, checkpoint, split="test")`: scores on a real split, and a
  table of predictions;
- `TRAINING`: the functions that 03_train shows, which build the model and define its loss;
- `show(predictions, recipe, layout, split)`: figures and tables of the predictions of all seeds.

`recipe` holds the fields of `Train` and the point of the grid, `settings` those of `Evaluate`. `images` is a mixture as
`mixing.gather` gives it, or an image table. `checkpoint`, where given, is for `loop.fit`.

A task that needs a network which never meets a mixture also offers `Auxiliary`, its parameters in 00_auxiliary,
`AUXILIARY_STAGE`, the stage that uses the network, and `prepare(settings, layout, seed, device)`: the network trained
on the pool, its history and its scores.
"""

import importlib

NAMES = ("classification", "captioning", "generation", "pretraining")


def load(name: str):
    """The module of a task, e.g. `classification`."""
    return importlib.import_module(f"contamination.tasks.{name}")

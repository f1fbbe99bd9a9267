"""Class fidelity: the share of images whose class a classifier confirms that never meets a mixture."""

import numpy as np

from contamination.metrics.intervals import share_interval


def class_fidelity(
    predicted, labels, *, classes: list[str], confidence: float = 0.95, metric: str = "class_fidelity"
) -> list[dict]:
    """Over all images and per class, with Wilson's interval, as dicts (metric, value, n, low, high).

    predicted, labels: class numbers, int64 (n,). classes: the name of each class; one without images has no fidelity.
    Raises ValueError for no images, or as many predictions as there are not labels.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} predictions and {len(labels)} labels: give one for each image")
    confirmed = predicted == labels
    groups = {metric: confirmed}
    groups |= {f"{metric} of {name}": confirmed[labels == label] for label, name in enumerate(classes)}
    return [
        share_interval(int(group.sum()), len(group), confidence=confidence).score(name)
        for name, group in groups.items()
        if name == metric or len(group)
    ]

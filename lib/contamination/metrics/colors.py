"""How well the class of a digit is predicted from its two colors alone: a shortcut that a classifier may learn."""

import numpy as np

from contamination.metrics.intervals import Interval, share_interval

STROKE = 1 / 16  # share of the pixels, the brightest, that are taken for stroke
FOLDS = 5


def two_colors(pixels: np.ndarray) -> np.ndarray:
    """The background's and the stroke's color of painted digits: float64 (n, 6), 0 to 255.

    pixels: uint8 (n, height, width, 3). The background is the median of the four corners, the stroke the mean of the
    brightest pixels.
    """
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    flat = pixels.reshape(len(pixels), -1, 3).astype(np.float64)
    brightest = np.argsort(-flat.sum(axis=2), axis=1, kind="stable")[:, : max(1, round(STROKE * flat.shape[1]))]
    stroke = np.take_along_axis(flat, brightest[..., None], axis=1).mean(axis=1)
    return np.hstack([np.median(corners, axis=1), stroke])


def class_from_colors(colors: np.ndarray, labels: np.ndarray, *, seed: int, confidence: float = 0.95) -> Interval:
    """Accuracy of a random forest that sees nothing but these colors, by 5-fold cross-validation, stratified.

    colors: as `two_colors` gives them. labels: int64 (n,). Wilson's interval, as if all images were judged by one
    forest. Raises ValueError when a class has fewer images than there are folds.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    fewest = np.unique(labels, return_counts=True)[1].min()
    if fewest < FOLDS:
        raise ValueError(f"a class has {fewest} images, and {FOLDS} folds need as many")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(RandomForestClassifier(200, random_state=seed), colors, labels, cv=folds)
    return share_interval(int((predicted == labels).sum()), len(labels), confidence=confidence)

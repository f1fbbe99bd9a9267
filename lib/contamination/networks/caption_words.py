"""The words of captions, as targets that teach a network what an image shows where there are no labels."""

import re
from collections import Counter

import pyarrow as pa

from contamination.base import image_tables
from contamination.training import reader
from contamination.training.loop import augment, fit, normalize

WORDS = 1000  # the largest number of words


def words_of(caption: str) -> set[str]:
    return set(re.findall(r"\w+", caption.lower()))


def frequent_words(captions: list[str]) -> list[str]:
    """The words that most captions have, at most `WORDS`, in the order of the alphabet.

    Raises ValueError when there are none.
    """
    counts = Counter(word for caption in captions for word in words_of(caption))
    if not counts:
        raise ValueError("the pool's captions hold no word: a network cannot learn from them")
    return sorted(sorted(counts, key=lambda word: (-counts[word], word))[:WORDS])


def has_words(captions: list[str], words: list[str]):
    """Which of `words` each caption has: bool (n, words)."""
    import torch

    found = map(words_of, captions)
    # Row by row: as lists, those of a million captions would take 8 bytes for each of these bits.
    return torch.stack([torch.tensor([word in caption for word in words]) for caption in found])


def train_multilabel(network, log_odds, *, pool: pa.Table, words: list[str], settings: dict, seed: int, device):
    """Train a network to tell which of `words` each image's caption has; returns it with its history.

    log_odds: called as `log_odds(network, views)`, gives each word's log-odds, float (n, words); the loss is binary
    cross-entropy. settings: the fields of `Optimization`, `AffineAugmentation` and `LoadingOptions`.
    """
    import torch.nn.functional as functional

    images = reader.load(pool, image_tables.stored_size(pool), settings, device)
    present = has_words(pool["caption"].to_pylist(), words).to(device)

    def loss(network, pixels, index, draws):
        views = augment(normalize(pixels), settings, draws)
        return functional.binary_cross_entropy_with_logits(log_odds(network, views), present[index].float())

    return fit(network, loss, images=images, recipe=settings, seed=seed, device=device)

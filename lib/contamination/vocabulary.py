"""The words of captions, as targets that teach a network what an image shows where there are no labels."""

import re
from collections import Counter

WORDS = 1000  # the most words that are told apart


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
    return torch.tensor([[word in caption for word in words] for caption in found])

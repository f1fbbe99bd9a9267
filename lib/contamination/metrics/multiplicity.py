"""Several comparisons at once: Holm's correction, and shares in order, which need none."""

from itertools import takewhile

from contamination.metrics.two_way import Estimate


def holm(p_values: list[float]) -> list[float]:
    """p-values adjusted for their number, in the order given (Holm, Scandinavian Journal of Statistics 1979).

    An adjusted value below 0.05 is shown with a family error of 5 %, whatever the dependence between comparisons.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def largest_harmless(
    estimates: list[tuple[float, Estimate]], *, margin: float, confidence: float = 0.95
) -> float | None:
    """The largest share up to which the loss is shown to be below a margin; None where that fails at the smallest one.

    estimates: shares and the change of the score against clean, where harm is negative. margin: positive, in the same
    unit. Shares are tested one-sided in rising order up to the first failure: in at most 1 - confidence of all studies
    is the answer too large, with no correction for the number of shares (Hsu & Berger, JASA 1999).
    """
    if margin <= 0:
        raise ValueError(f"margin {margin}: give a loss above 0")
    tests = [(share, change.one_sided(-margin, side="above")) for share, change in sorted(estimates)]
    return _last_shown(tests, 1 - confidence)


def harm_shown_from(
    estimates: list[tuple[float, Estimate]], *, margin: float = 0.0, confidence: float = 0.95
) -> float | None:
    """The smallest share from which on the loss is shown to be above a margin, at it and at all larger shares.

    None where that fails at the largest share. As `largest_harmless`, in falling order; margin 0: any loss.
    """
    if margin < 0:
        raise ValueError(f"margin {margin}: give a loss of 0 or more")
    tests = [(share, change.one_sided(-margin, side="below")) for share, change in sorted(estimates, reverse=True)]
    return _last_shown(tests, 1 - confidence)


def _last_shown(tests: list[tuple[float, float]], level: float) -> float | None:
    """The share of the last of the p-values below the level before one that is not."""
    passed = [share for share, _ in takewhile(lambda test: test[1] < level, tests)]
    return passed[-1] if passed else None

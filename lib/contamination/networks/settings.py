"""The section `measure` of a parameter file."""

from pydantic import Field

from contamination.base.settings import Count, Section


class Measure(Section):
    """02_measure: what the generated images are like, beside real ones."""

    extractor: str = ""
    """name of a published timm model whose features are compared; empty: the network of `auxiliary.generation`"""
    judge: str = ""
    """name of a published timm model of ImageNet's classes that judges class fidelity, where classes are folders such
    as `n01440764`; it has seen ImageNet's training images, so that its accuracy on these flatters; empty: the network
    of `auxiliary.classification`"""
    neighbors: Count = 5
    """the k of precision, recall, density and coverage"""
    replicates: int = Field(200, ge=20)
    """bootstrap samples behind each interval"""
    near_duplicate_quantile: float = Field(0.01, gt=0, lt=1)
    """share of the real training images that lie as near to a test image as a near-duplicate does, 0 to 1"""
    images: Count = 50_000
    """with more slots than this, as many are looked at, drawn at random: all are held in memory, decoded"""
    threads: Count = 1
    """CPU threads of one job"""

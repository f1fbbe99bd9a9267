"""Measures that need no trained model of this project: generated captions against references, feature sets compared."""

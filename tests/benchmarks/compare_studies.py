"""The accuracy curves of one model in two studies, side by side: what a conclusion owes to the generator, say.

`python tests/benchmarks/compare_studies.py FIRST.csv SECOND.csv --titles A B --to FIGURE`, each a results.csv; writes
FIGURE.png and FIGURE.svg.
"""

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from contamination.base import plotting
from contamination.report import figures, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs=2, type=Path)
    parser.add_argument("--titles", nargs=2, required=True)
    parser.add_argument("--model", default="resnet")
    parser.add_argument("--to", type=Path, required=True)
    asked = parser.parse_args()
    matplotlib.use("Agg")
    plotting.set_style()
    panels = []
    for path, title in zip(asked.tables, asked.titles, strict=True):
        rows = results.in_percent(results.metric(results.read(path), "classification", name="accuracy"))
        rows = rows[rows["model"] == asked.model]
        panels.append(figures.Panel(rows, title, "test accuracy on real images (%)"))
    palette = figures.colors(pd.concat([panel.rows for panel in panels]))
    figure = figures.small_multiples(panels, 2, palette=palette, confidence=0.95, share_scale=True)
    figures.save(figure, asked.to.parent, name=asked.to.name)


if __name__ == "__main__":
    main()

"""Where everything of one study lies on disk, and the one spelling of ratios, seeds and draws in file names."""

import os
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

Ints = Sequence[int]
NOTEBOOKS = {
    "pretrain": "00_pretrain.ipynb",
    "auxiliary": "00_auxiliary.ipynb",
    "generate": "01_generate.ipynb",
    "import": "01_import.ipynb",
    "measure": "02_measure.ipynb",
    "detect": "02_detect.ipynb",
    "mix": "02_mix.ipynb",
    "train": "03_train.ipynb",
    "evaluate": "04_evaluate.ipynb",
    "plot": "05_plot.ipynb",
}


def project_root() -> Path:
    """The folder that holds `notebooks/` and `parameters/`, searched upwards from the working directory.

    JupyterLab starts a kernel in `notebooks/`, papermill in the folder it was called from; both find the same root.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "parameters").is_dir():
            return folder
    raise FileNotFoundError(f"{here} is not inside the project: change to the folder that holds notebooks/ first")


def spell_ratio(ratio: float) -> str:
    """The only spelling of a ratio in paths and tables: at least two decimals, no more than needed (0.20, 0.125)."""
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
        raise ValueError(f"ratio {ratio!r} is not allowed: give a number from 0 to 1")
    digits = format(Decimal(str(ratio)), "f").rstrip("0")
    decimals = len(digits.partition(".")[2])
    return f"{Decimal(str(ratio)):.{max(2, decimals)}f}"


def spell_seeds(seeds: Ints, draws: Ints = (), slots: Ints = ()) -> str:
    """The name of a block of seeds that one job handles together, e.g. `seeds-0-1-2` or `seeds-0-1-draws-0-1`.

    draws, slots: of each seed, as `replicates.of_lists` takes them.
    """
    lists = {"seeds": seeds, "draws": draws, "slots": slots}
    return "-".join("-".join([name, *map(str, numbers)]) for name, numbers in lists.items() if numbers)


def read_seeds(name: str) -> dict[str, list[int]]:
    """The seeds, draws and slots that `spell_seeds` has spelled; a list that it left out is empty."""
    spelled = dict(re.findall(r"([a-z]+)((?:-[0-9]+)+)", name))
    return {key: [int(number) for number in spelled.get(key, "").split("-")[1:]] for key in ("seeds", "draws", "slots")}


def spell_draw(draw: int) -> str:
    """The folder of what belongs to one draw of the generated sets; that of draw 0 has none of its own."""
    return f"draw-{draw}" if draw else ""


EXPLORE = "explore"  # the folder of what notebooks write that are run by hand


class Layout:
    """Paths of one study, below its output folder (`outputs/digits`, relative to the project root).

    draw: that of the generator and the generated sets; those of another than 0 lie in `draw-1/` and so on.
    by_hand: for a notebook that is run by hand. Then a path is that of what such notebooks have made, below `explore/`,
    where there is any, and else that of what the sweep has made; `writable` says where to write.
    """

    def __init__(self, outputs: str | os.PathLike, by_hand: bool = False, draw: int = 0):
        self.root = project_root() / outputs
        self.by_hand = by_hand
        self.draw = draw

    def of_draw(self, draw: int) -> "Layout":
        """The same with another draw of the generator and the generated sets."""
        return Layout(self.root, self.by_hand, draw)

    @property
    def writable(self) -> "Layout":
        """Where a notebook writes: by hand below `explore/`, so that no result of the sweep is touched."""
        return Layout(self.root / EXPLORE, draw=self.draw) if self.by_hand else self

    def _at(self, *parts: str) -> Path:
        path, own = self.root.joinpath(*parts), self.root.joinpath(EXPLORE, *parts)
        return own if self.by_hand and own.exists() else path

    def real(self, split: str) -> Path:
        """Image table of a real split: `pool`, `train` or `test`."""
        return self.root / "images" / f"{split}.arrow"

    def ood(self, name: str) -> Path:
        """Image table of one OOD test set."""
        return self.root / "images" / "ood" / f"{name}.arrow"

    @property
    def ood_sets(self) -> Path:
        """The list of the OOD test sets."""
        return self.root / "images" / "ood" / "sets.json"

    def auxiliary(self, task: str) -> Path:
        """Folder of the network that a task has learn from the pool alone."""
        return self._at("auxiliary", task)

    @property
    def pretrain(self) -> Path:
        return self._at(spell_draw(self.draw), "pretrain")

    @property
    def own_pipeline(self) -> Path:
        """The text-to-image pipeline that 00_pretrain trains, in diffusers' format."""
        return self.pretrain / "pipeline"

    def generated(self, source: str) -> Path:
        """Folder of the image shards of one generated set."""
        return self._at(spell_draw(self.draw), "generate", source)

    def imported(self, source: str) -> Path:
        """Folder of what is known of the tree behind an imported set: index, broken images."""
        return self.root / "images" / "imported" / source

    def measured(self, stage: str, source: str) -> Path:
        """Folder of what stage `measure` or `detect` has found of one generated set, or of the pool."""
        return self._at(spell_draw(self.draw), stage, source)

    def mixture(self, arm: str, source: str, ratio: float, seeds: Ints, draws: Ints = (), slots: Ints = ()) -> Path:
        """Folder of the manifests of one mixture, one per seed. seeds, draws, slots: as in `spell_seeds`."""
        return self._at("mix", arm, source, spell_ratio(ratio), spell_seeds(seeds, draws, slots))

    def run(
        self,
        stage: str,
        task: str,
        model: str,
        arm: str,
        source: str,
        ratio: float,
        seeds: Ints,
        draws: Ints = (),
        slots: Ints = (),
    ) -> Path:
        """Folder of one run in stage `train` or `evaluate`, or of its unfinished trainings: stage `checkpoints`."""
        return self._at(stage, task, model, arm, source, spell_ratio(ratio), spell_seeds(seeds, draws, slots))

    def job(self, stage: str, **point) -> Path:
        """Folder of one job of any stage; it holds the executed notebook beside what the notebook wrote."""
        if "draw" in point:
            return self.of_draw(point.pop("draw")).job(stage, **point)
        if stage == "pretrain":
            return self.pretrain
        if stage == "auxiliary":
            return self.auxiliary(**point)
        if stage in ("generate", "import"):
            return self.generated(**point)
        if stage in ("measure", "detect"):
            return self.measured(stage, **point)
        if stage == "mix":
            return self.mixture(**point)
        if stage == "plot":
            return self.plot
        return self.run(stage, **point)

    @property
    def plot(self) -> Path:
        return self.root / "plot"

    @property
    def results(self) -> Path:
        return self.root / "results.csv"

    @property
    def effects(self) -> Path:
        return self.root / "effects.csv"

    @property
    def claims(self) -> Path:
        """What was claimed before the first training, and when."""
        return self.root / "claims.json"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report"

"""A second look at a finished study: what of a loss is labels, what is color, and what the judge's choice changes.

Trains the first classifier of the study on each generated set in every slot, with the study's recipe, for some seeds:
as it is; with labels that models trained on real images alone give (the study's own runs of arm `clean`), an upper
bound, for these labels carry knowledge of real images; with real pool images whose labels are wrong as often and in the
same way; and in gray, beside real images in gray. Prints one table in Markdown; nothing is written.

`python tests/benchmarks/second_look.py parameters/digits.yaml --seeds 0 1`, after `contamination run` of that study.
"""

import argparse

import numpy as np
import torch
from contamination.base import image_tables
from contamination.metrics.intervals import interval
from contamination.mixtures import mixing
from contamination.networks import timm_models
from contamination.study import study as studies
from contamination.tasks import classification
from contamination.training import reader
from safetensors.torch import load_file

CPU = torch.device("cpu")


def pixels_of(table, size: int):
    """uint8 (n, 3, size, size)."""
    return image_tables.decode_all(table, size)


def gray(pixels):
    """The mean of the channels in each of them."""
    return pixels.float().mean(dim=1, keepdim=True).round().byte().expand(-1, 3, -1, -1).contiguous()


class Looker:
    """One classifier of a study. accuracy: test accuracies by seed of trainings with other pixels or labels."""

    def __init__(self, study, seeds: list[int]):
        self.study, self.seeds, self.layout = study, seeds, study.layout
        self.name, self.model = next(iter(study.models_of("classification").items()))
        self.recipe = study.train_of(self.name).model_dump()
        self.size = study.data.image_size
        self.splits = {split: image_tables.read(self.layout.real(split)) for split in ("pool", "train", "test")}
        self.test = pixels_of(self.splits["test"], self.size)
        self.classes = len(set(self.splits["test"]["label"].to_pylist()))

    def network(self):
        return timm_models.build(self.model.architecture, self.model.options, classes=self.classes)

    def predicted(self, network, pixels):
        return timm_models.predict(network, pixels.split(timm_models.BATCH), device=CPU).argmax(dim=1)

    def accuracy(self, pixels, labels, test=None) -> list[float]:
        """labels: int64 tensor, or one for each seed. test: the test images, where they are changed too."""
        test = self.test if test is None else test
        truth, found = torch.tensor(self.splits["test"]["label"].to_numpy()), []
        for seed in self.seeds:
            torch.manual_seed(seed)
            own = labels[seed] if isinstance(labels, dict) else labels
            trained, _ = classification.fit_labels(
                self.network(), reader.InMemoryImages(pixels), own, self.recipe, seed, CPU
            )
            found.append((self.predicted(trained, test) == truth).float().mean().item())
        return found

    def labels_of_clean(self, pixels) -> dict[int, torch.Tensor]:
        """What models that were trained on real images alone call these images, by seed."""
        (clean,) = {run.clean for run in self.study.runs() if run.model == self.name}
        folder, labels = self.layout.run("train", *clean), {}
        for seed in self.seeds:
            network = self.network()
            network.load_state_dict(load_file(folder / f"seed-{seed}.safetensors"))
            labels[seed] = self.predicted(network, pixels)
        return labels


def rows(look: Looker):
    """(set, what, accuracies) of each training."""
    real = {split: torch.tensor(look.splits[split]["label"].to_numpy()) for split in ("train", "pool")}
    pixels = pixels_of(look.splits["train"], look.size)
    yield "real", "as they are", look.accuracy(pixels, real["train"])
    yield "real", "in gray, tested in gray", look.accuracy(gray(pixels), real["train"], gray(look.test))
    others = mixing.in_slots(look.layout, "pool", seed=look.study.seed)
    others = pixels_of(others, look.size)
    for source in look.study.generated_sets():
        made = pixels_of(mixing.in_slots(look.layout, source, seed=look.study.seed), look.size)
        given = look.labels_of_clean(made)
        wrong = np.mean([(given[seed] != real["train"]).float().mean().item() for seed in look.seeds])
        yield source, "as labeled", look.accuracy(made, real["train"])
        yield source, f"labels by clean models ({100 * wrong:.1f} % change)", look.accuracy(made, given)
        yield source, "real pool images with these labels", look.accuracy(others, given)
        yield source, "in gray, tested in gray", look.accuracy(gray(made), real["train"], gray(look.test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    look = Looker(studies.load(asked.study), asked.seeds)
    print(f"{look.name}, test accuracy in %, seeds {' '.join(map(str, asked.seeds))}\n")
    print("| images in every slot | labels and colors | mean | each seed |\n|---|---|---|---|")
    for source, what, values in rows(look):
        each = " ".join(f"{100 * value:.1f}" for value in values)
        print(f"| {source} | {what} | {100 * interval(values).mean:.1f} | {each} |", flush=True)


if __name__ == "__main__":
    main()

"""Checkpoints: a training that is cut off at any step goes on to the same end, and no bad file is ever used."""

from pathlib import Path

import pytest
import torch
from contamination.training import loop
from contamination.training.checkpoints import Checkpoint
from contamination.training.reader import InMemoryImages
from contamination.training.settings import Optimization
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.medium

RECIPE = Optimization(steps=30, batch_size=4, learning_rate=1e-2, ema_decay=0.9).model_dump()
CPU = torch.device("cpu")


class CutOffError(Exception):
    pass


def fit(checkpoint=None, until: int | None = None, factor=lambda step: 1.0, **changes):
    """A small network with dropout and batch normalization learns by random moves; it is cut off in step `until`."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (13, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    layers = [torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(8, 4))
    steps = []

    def loss(model, pixels, index, draws):
        steps.append(index)
        if until and len(steps) > until:
            raise CutOffError
        moves = {"shift": 0.2, "rotation": 10, "scale": 0.1, "flip": True}
        views = loop.augment(loop.normalize(pixels), moves, draws) + draws.together().normal() / 10
        return torch.nn.functional.cross_entropy(model(views), index % 4) * factor(len(steps))

    model, history = loop.fit(
        model, loss, images=InMemoryImages(pixels), recipe=RECIPE | changes, seed=0, device=CPU, checkpoint=checkpoint
    )
    return model.state_dict(), history, len(steps)


def at(folder, minutes: float = 0, **changes) -> Checkpoint:
    return Checkpoint(folder / "seed-0.pt", RECIPE | changes, minutes)


def same(one, other) -> bool:
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0] | other[0])


@given(until=st.integers(1, 29), ema=st.sampled_from([0.0, 0.9]), schedule=st.sampled_from(["one_cycle", "cosine"]))
@settings(max_examples=12)
def test_a_training_cut_off_at_any_step_ends_as_an_undisturbed_one(tmp_path_factory, until, ema, schedule):
    folder, changes = tmp_path_factory.mktemp("cut"), {"ema_decay": ema, "schedule": schedule}
    with pytest.raises(CutOffError):
        fit(at(folder, **changes), until, **changes)
    resumed = fit(at(folder, **changes), **changes)
    assert resumed[2] == 30 - until
    assert same(resumed, fit(**changes))


def test_a_finished_training_is_read_and_not_done_again(tmp_path):
    first, again = fit(at(tmp_path)), fit(at(tmp_path))
    assert (first[2], again[2]) == (30, 0) and same(first, again)


def test_it_is_written_as_often_as_asked_and_at_the_end(tmp_path):
    with pytest.raises(CutOffError):
        fit(at(tmp_path, minutes=60), 29)
    assert not list(tmp_path.iterdir())
    fit(at(tmp_path, minutes=60))
    assert [file.name for file in tmp_path.iterdir()] == ["seed-0.pt"]


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_half_written_file_is_not_used_and_said_to_be_unreadable(tmp_path, capsys, left):
    with pytest.raises(CutOffError):
        fit(at(tmp_path), 20)
    file = tmp_path / "seed-0.pt"
    file.write_bytes(file.read_bytes()[:left])
    resumed = fit(at(tmp_path))
    said = capsys.readouterr().out
    assert resumed[2] == 30 and same(resumed, fit())
    assert said.startswith("seed-0.pt cannot be read (") and said.count("\n") == 1


def test_of_a_file_that_cannot_be_reached_nothing_is_lost(tmp_path, monkeypatch):
    with pytest.raises(CutOffError):
        fit(at(tmp_path), 20)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="stale"):
        patch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(OSError("stale file handle")))
        at(tmp_path).load()
    assert at(tmp_path).load()["step"] == 20


def test_weights_that_a_bad_loss_has_spoilt_are_not_written(tmp_path):
    # A line of the history is written at every third step.
    with pytest.raises(ValueError, match="loss is nan at step 25"):
        fit(at(tmp_path, steps=60), factor=lambda step: float("nan") if step == 25 else 1.0, steps=60)
    assert at(tmp_path, steps=60).load()["step"] == 24


def test_a_file_that_would_run_code_is_not_read(tmp_path, capsys):
    import pickle

    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    (tmp_path / "seed-0.pt").write_bytes(pickle.dumps(Bad()))
    assert at(tmp_path).load() is None
    assert not (tmp_path / "made").exists() and "cannot be read" in capsys.readouterr().out


def test_of_another_recipe_or_mixture_it_is_not_used(tmp_path, capsys):
    for other in ({"learning_rate": 0.5}, {"manifest": "other"}):
        with pytest.raises(CutOffError):
            fit(at(tmp_path), 20)
        assert at(tmp_path, **other).load() is None
        assert "of another recipe, mixture or version" in capsys.readouterr().out


def test_it_goes_on_with_another_number_of_processes_or_threads(tmp_path):
    with pytest.raises(CutOffError):
        fit(at(tmp_path), 20)
    assert at(tmp_path, processes=8, threads=3, checkpoint_minutes=1.0).load()["step"] == 20


def test_seconds_add_up_over_starts(tmp_path):
    checkpoint = at(tmp_path)
    checkpoint.started -= 100
    checkpoint.save({"step": 1})
    later = at(tmp_path)
    later.load()
    assert 100 <= later.seconds < 110

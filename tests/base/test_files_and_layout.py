"""Files appear whole or not at all; ratios have one spelling."""

import pytest
from contamination.base import files
from contamination.base.layout import Layout, project_root, spell_ratio
from hypothesis import given
from hypothesis import strategies as st


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.txt"
    with files.whole_file(path) as scratch:
        scratch.write_text("first")
    with pytest.raises(RuntimeError), files.whole_file(path) as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results"
    with files.whole_folder(path) as scratch:
        (scratch / "a").write_text("first")
    with pytest.raises(RuntimeError), files.whole_folder(path) as scratch:
        (scratch / "b").write_text("half")
        raise RuntimeError
    assert [entry.name for entry in path.iterdir()] == ["a"]
    with files.whole_folder(path) as scratch:
        (scratch / "c").write_text("second")
    assert [entry.name for entry in path.iterdir()] == ["c"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["results"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".results.abcd1234").mkdir()
    (tmp_path / ".results.abcd1234" / "weights").write_text("half")
    (tmp_path / ".r.txt.abcd1234").write_text("half")
    with files.whole_folder(tmp_path / "results"), files.whole_file(tmp_path / "r.txt"):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["r.txt", "results"]


def test_a_hash_of_files_follows_names_and_contents(tmp_path):
    (tmp_path / "x").write_text("1")
    before = files.hash_files(tmp_path, tmp_path.iterdir())
    (tmp_path / "x").write_text("2")
    changed = files.hash_files(tmp_path, tmp_path.iterdir())
    (tmp_path / "x").rename(tmp_path / "y")
    assert len({before, changed, files.hash_files(tmp_path, tmp_path.iterdir())}) == 3


@pytest.mark.parametrize(
    ("ratio", "spelled"), [(0, "0.00"), (0.2, "0.20"), (1, "1.00"), (0.125, "0.125"), (1e-3, "0.001")]
)
def test_a_ratio_has_one_spelling(ratio, spelled):
    assert spell_ratio(ratio) == spelled


@given(st.floats(0, 1))
def test_a_spelled_ratio_is_the_same_number_again(ratio):
    assert float(spell_ratio(ratio)) == ratio


def test_the_project_is_found_from_its_notebooks_folder(project, monkeypatch):
    monkeypatch.chdir(project / "notebooks")
    assert project_root() == project
    assert Layout("outputs/study").root == project / "outputs" / "study"


def test_outside_the_project_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not inside the project"):
        project_root()


def test_a_missing_upstream_names_the_notebook_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="mix is missing: 02_mix makes it"):
        files.require(tmp_path / "mix", "02_mix")

"""Executing one notebook: unknown parameters refused, an executed copy only on success."""

import nbformat
import pytest
from contamination.runner import notebooks

pytestmark = pytest.mark.medium


@pytest.fixture
def notebook(tmp_path):
    """A notebook with one parameter that fails when it is told to."""
    cells = [nbformat.v4.new_code_cell("mode: str = 'well'  # how it ends"), nbformat.v4.new_code_cell("")]
    cells[0].metadata["tags"] = ["parameters"]
    cells[1].source = (
        "import os, signal\nprint('begun')\nif mode == 'raise': raise ValueError('two\\nlines')\n"
        "if mode == 'die': os.kill(os.getpid(), signal.SIGKILL)"
    )
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "n.ipynb")
    return tmp_path / "n.ipynb"


def run(notebook, **parameters):
    output, log = notebook.parent / "out" / "n.ipynb", notebook.parent / "log" / "n.ipynb"
    try:
        notebooks.execute(notebook, output, parameters, log)
    finally:
        left = (output.exists(), log.exists())
    return left


def test_success_leaves_the_executed_copy_and_no_log(notebook):
    assert run(notebook, mode="well") == (True, False)
    executed = nbformat.read(notebook.parent / "out" / "n.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "begun\n"


def test_a_parameter_that_the_notebook_does_not_declare_is_refused(notebook):
    with pytest.raises(ValueError, match=r"n\.ipynb has no parameter raito; it declares mode"):
        run(notebook, raito=0.4)
    assert not (notebook.parent / "out").exists()


@pytest.mark.parametrize(
    ("mode", "message"), [("raise", r"n\.ipynb: ValueError: two lines \(see .*"), ("die", "the kernel died")]
)
def test_a_failure_is_one_line_and_leaves_the_log_alone(notebook, mode, message):
    with pytest.raises(RuntimeError, match=message) as caught:
        run(notebook, mode=mode)
    assert "\n" not in str(caught.value)
    assert not (notebook.parent / "out" / "n.ipynb").exists()
    assert (notebook.parent / "log" / "n.ipynb").exists()

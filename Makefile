# make study                            the main job: parameters/digits.yaml, from pretraining to the report
# make study STUDY=parameters/x.yaml    another study
# make quick                            style, types and the quick tests: two minutes on two cores
# make test                             style, types, properties, notebooks, the smoke study
STUDY ?= parameters/digits.yaml
PYTHON ?= python3.11
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

.PHONY: study style quick test lab
study: .venv/ready
	@.venv/bin/contamination run $(STUDY)

style: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

quick: style
	$(PYTEST) -m "not slow and not medium"

test: style
	$(PYTEST)

lab: .venv/ready
	.venv/bin/jupyter lab --notebook-dir=.

# The requirements of pyproject.toml, pinned by requirements.lock.
.venv/ready: pyproject.toml requirements.lock
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[all]' -c requirements.lock
	touch $@

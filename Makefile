# make study                            the main job: parameters/digits.yaml, from pretraining to the report
# make study STUDY=parameters/x.yaml    another study
# make test                             style, properties, notebooks, the smoke study
STUDY ?= parameters/digits.yaml
PYTHON ?= python3.11

.PHONY: study test lab
study: .venv/ready
	@.venv/bin/contamination run $(STUDY)

test: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

lab: .venv/ready
	.venv/bin/jupyter lab --notebook-dir=.

# The lines under `pip:` in environment.yml, pinned by requirements.lock.
.venv/ready: environment.yml requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	awk '/^  - pip:/ {list = 1; next} list && sub(/^      - /, "")' environment.yml > .venv/requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r .venv/requirements.txt -c requirements.lock
	touch $@

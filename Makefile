# The README's two commands are `make demo` and `make test`; each installs what it needs into .venv.
# PYTHON=... names another interpreter (3.10 to 3.12).

WITHIN := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10; do \
	$$p -c '$(WITHIN)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-full lint format settings golden bench clean

demo: $(VENV)/.demo  ## draw talkers, make shards, train four networks, dub people they never saw; the same command continues
	$(RUN) -m launch demo

test: lint  ## lint, types and every test but the largest; a process for each core
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist loadfile

test-full: lint  ## the largest tests as well: some fifty minutes, and gigabytes of disk
	$(RUN) -m pytest -m "" --hypothesis-profile explore

lint: $(VENV)/.test  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/.test  ## rewrite the code as ruff would have it
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

settings: $(VENV)/.test  ## write docs/settings.md from the config dataclasses
	$(RUN) -m train.settings_page > docs/settings.md

golden: $(VENV)/.test  ## record the golden losses anew, after a change that is meant to move them
	MYTALK_WRITE_GOLDEN=1 $(RUN) -m pytest tests/train/test_loop.py -k golden

bench: $(VENV)/.test  ## measure the stream and training: some twenty minutes and 2 GB of disk
	$(RUN) -m benchmarks.stream
	$(RUN) -m benchmarks.train

clean:  ## remove the environment and the demo's runs
	rm -rf $(VENV) runs/demo

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10-3.12 found; install one, or name it: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@$(RUN) -m pip --version > $@

$(VENV)/.demo: setup.cfg constraints.txt | $(VENV)/.made
	@date +%s > $(VENV)/.started
	$(INSTALL) -e '.[train,landmarks,judges,demo]'
	@echo $$(( $$(date +%s) - $$(cat $(VENV)/.started) )) > $@

$(VENV)/.test: setup.cfg constraints.txt | $(VENV)/.made
	$(INSTALL) -e '.[train,landmarks,judges,demo,remote,ray,test]'
	@touch $@

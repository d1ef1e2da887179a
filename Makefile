# make demo    align a tiny, real text-to-video model and open nothing: curves, videos and the LoRA land in runs/
# make test    the whole suite;  make quick  the part of it that takes under two minutes
# make check   lint, types, import contract
# make evidence  the long proofs behind LOG.md (hours on two cores)
# Arguments pass through: make demo ARGS="--seed 3 --json"; make test ARGS="-k dpo"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: demo test quick check evidence install clean

demo: $(STAMP)
	@$(BIN)/onlinevpo demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

quick: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not ray" -n 2 --dist loadfile $(ARGS)

check: $(STAMP)
	@$(BIN)/ruff check policies cluster services tests
	@$(BIN)/ruff format --check policies cluster services tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports

evidence: $(STAMP)
	@$(BIN)/python -m tests.evidence $(ARGS)

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (about a minute, once)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' >&2
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info

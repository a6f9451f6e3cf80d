# make demo    set everything up and make the demo board (results/report/index.html)
# make test    set everything up and run every check and test
# make reliability    run the tests of docs/reliability.md and write it
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
  $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
CONFIG ?= config.yaml
PYTEST ?=

.PHONY: demo test check report reliability clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' \
	  || { echo "error: segbench needs Python 3.11 or 3.12, and found neither"; \
	       echo "  -> make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[weights,dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/segbench run --config $(CONFIG) --cores $(CORES)

report: $(VENV)/.installed
	@$(BIN)/segbench collect --config $(CONFIG)
	@$(BIN)/segbench report results/table.json --out results/report

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

# a file of tests stays in one process: its fixtures (a Slurm, a browser, a board) are made once
test: check
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile $(PYTEST)

reliability: $(VENV)/.installed
	$(BIN)/python -m pytest -m fault --junitxml=.reliability.xml; \
	$(BIN)/python tests/reliability/reliability_table.py --junit .reliability.xml
	rm -f .reliability.xml

clean:
	rm -rf results .snakemake

# `make demo` and `make test` work on a fresh clone with Python >= 3.11 and nothing else done before.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo fast test slow faults results gpu check install install-dev clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $(VENV)/.installed $@

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	$(BIN)/lsc-engine run demo

PYTEST = $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What answers within a minute: numbers, presets, run folders, charts, without fuzzing, training, compiling and other
# programs.
fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow" tests/charts tests/config tests/heads tests/runs tests/vectors \
		--ignore tests/config/test_malformed.py --ignore tests/runs/test_fuzz.py --ignore tests/runs/test_alerts.py \
		--ignore tests/runs/test_mirrors.py --ignore tests/vectors/test_assign.py --ignore tests/runs/test_foreign.py \
		--ignore tests/runs/test_foreign_databases.py -k "not loss_path_compiles_whole and not goes_on_bit_by_bit"

# All but what is marked slow.
test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

# What is marked slow: other programs (Slurm, browsers, trackers), long fuzzing, heavy repetitions, benchmarks, whole
# trainings in processes of their own. That nothing is marked (exit code 5) is no fault.
slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow || test $$? -eq 5

# What the suite does with 10 random kills, with 100 and other moments every time; KILLS=1000 for a night.
KILLS ?= 100
faults: $(VENV)/.installed-dev
	LSC_FAULT_KILLS=$(KILLS) LSC_FAULT_ROUNDS=20 LSC_FAULT_SEED=$${SEED:-$$(date +%s)} $(BIN)/python -m pytest tests/faults --timeout=36000

# Every small preset of the papers: trained, reported into docs/results, listed in the README's tables. About 65 minutes
# of one CPU core the first time; what has not changed since is skipped, so that it can be stopped and run again.
RUNS ?= runs
results: $(VENV)/.installed
	$(BIN)/python -m benchmarks.papers --runs-dir $(RUNS) --readme README.md

# What a CUDA GPU does, in four parts of at most nine minutes each; again goes on with what is left (docs/gpu.md).
OUT ?= benchmarks/results
gpu: $(VENV)/.installed-dev
	PYTHON=$(BIN)/python benchmarks/gpu.sh --out $(OUT)

# lint, types, import contracts
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)

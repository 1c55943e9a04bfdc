# `make` lists the targets. Everything is installed into .venv from requirements/.
STUDY ?= quickstart
PYTHON ?= python3
export OMP_NUM_THREADS ?= $(shell $(PYTHON) -c "import os; print(min(8, os.cpu_count()))")
export JUPYTER_PREFER_ENV_PATH = 1
# Jupyter's settings and what it writes stay in the project, out of the user's home
export JUPYTER_CONFIG_DIR = $(CURDIR)/.jupyter
export JUPYTER_DATA_DIR = $(JUPYTER_CONFIG_DIR)/data
export JUPYTER_RUNTIME_DIR = $(JUPYTER_DATA_DIR)/runtime
export JUPYTERLAB_SETTINGS_DIR = $(JUPYTER_CONFIG_DIR)/lab/user-settings
export JUPYTERLAB_WORKSPACES_DIR = $(JUPYTER_CONFIG_DIR)/lab/workspaces
export IPYTHONDIR = $(JUPYTER_CONFIG_DIR)/ipython
export TOKENIZERS_PARALLELISM = false

# a stage is a notebook that begins one; 01_activation_recording is called 01 for short,
# and 03 stands for 03b as well
BEGUN := $(notdir $(shell grep -l 'begin_stage.study,' notebooks/[0-9]*.py))
NUMBERS := $(sort $(foreach name,$(BEGUN),$(firstword $(subst _, ,$(name)))))
STAGES := $(NUMBERS) $(basename $(BEGUN))
BIN := .venv/bin
ENV := .venv/.installed
LOCKS := requirements/lock.txt requirements/lock-torch.txt requirements/lock-torch-cpu.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# the small CPU-only build of torch where there is no NVIDIA driver: TORCH=cuda to overrule
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)

help:  ## list the targets
	@sed 's/^$$(STAGES):/$(NUMBERS):/' Makefile | \
	    awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  STUDY=name (default quickstart): $$(ls params | grep -v -e sweeps -e README -e clusters | xargs)"

env: $(ENV)  ## make .venv and install everything, hash-checked

$(ENV): $(LOCKS) requirements/data.txt pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; v >= (3, 11) and v < (3, 14) or \
	    sys.exit(f'Python 3.11 to 3.13 is needed, found {v[0]}.{v[1]}: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements/lock.txt
	@if [ "$(TORCH)" = cpu ] && \
	    $(PIP) --require-hashes -r requirements/lock-torch-cpu.txt 2>/dev/null; \
	then echo "torch: CPU build"; \
	else echo "torch: the build on PyPI (on Linux with CUDA: several GB)"; \
	    $(PIP) --require-hashes -r requirements/lock-torch.txt; fi
	$(PIP) --require-hashes -r requirements/data.txt
	$(PIP) --no-build-isolation --editable .
	@touch $(ENV)

sync: $(ENV)  ## make or update the .ipynb paired with each notebooks/*.py
	$(BIN)/jupytext --sync notebooks/*.py

lab: sync  ## open JupyterLab on the notebooks (ARGS="--no-browser --port 8899")
	JUPYTER_PATH= JUPYTER_CONFIG_PATH= $(BIN)/jupyter lab \
	    --LabApp.default_url=/lab/tree/notebooks $(ARGS)

# where stages run: here, one after another, or [SCHEDULER=tcp://...|slurm|pbs|sge] [JOBS=n]
WHERE = $(if $(SCHEDULER),--scheduler "$(SCHEDULER)") $(if $(JOBS),--jobs "$(JOBS)") $(ARGS)

all: $(ENV)  ## run all stages of STUDY that are not up to date [JOBS=n] [SCHEDULER=slurm]
	$(BIN)/python -m anbn.study.pipeline $(STUDY) $(WHERE)

$(STAGES): $(ENV)  ## run one stage of STUDY (and the stages it reads)
	$(BIN)/python -m anbn.study.pipeline $(STUDY) $@ $(WHERE)

report: $(ENV)  ## make outputs/STUDY/report.html, print the headline numbers
	@$(BIN)/python -m anbn.study.report $(STUDY)

compare: $(ENV)  ## what differs between studies A and B (a point of a sweep: SWEEP/POINT)
	@$(BIN)/python -m anbn.study.compare "$(A)" "$(B)"

sweep: $(ENV)  ## run params/sweeps/SWEEP.yaml [SCHEDULER=tcp://...|slurm] [JOBS=n]
	@$(BIN)/python -m anbn.study.pipeline $(if $(filter-out file,$(origin STUDY)),"$(STUDY)") \
	    --sweep $(SWEEP) $(WHERE)

data: $(ENV)  ## fetch what STUDY needs from outside (OpenNeuro: of SUBJECTS="sub-001 ...")
	$(BIN)/python -m anbn.study.data $(STUDY) --subjects="$(SUBJECTS)"

test: $(ENV)  ## run the tests, a file at a time on each core, four at most
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive \
	    $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-faults: $(ENV)  ## kill, fill the disk, damage files; print how each fault ended
	$(BIN)/python -m pytest -m faults tests/faults tests/study

test-cells: $(ENV)  ## run study ci with every cell twice, other threads, pure noise
	$(BIN)/python -m anbn.study.pipeline ci $(WHERE)
	$(BIN)/python -m pytest -m cells tests/notebooks

test-browser: $(ENV)  ## test JupyterLab in a headless Chromium (ANBN_CHROMIUM=path)
	$(PIP) --require-hashes -r requirements/lock-browser.txt
	ANBN_BROWSER=1 $(BIN)/python -m pytest -m browser tests/browser

lint: $(ENV)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(ENV)  ## run benchmarks/NAME.py
	@test -f "benchmarks/$(NAME).py" || { echo "NAME must be one of:" \
	    $$(basename -s .py benchmarks/*.py | grep -v peers); exit 2; }
	$(BIN)/python benchmarks/$(NAME).py

docs: $(ENV)  ## remake params/README.md from the notebooks' parameter cells
	$(BIN)/python -m anbn.core.params_docs

lock: $(ENV)  ## remake requirements/lock*.txt from environment.yml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python requirements/make_lock.py

binder-check: $(ENV)  ## check what Binder needs, as far as that can be done here
	$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python requirements/binder_check.py

clean:  ## delete the outputs of STUDY
	@case "$(STUDY)" in "" | *[!A-Za-z0-9_-]*) echo "STUDY must be a name"; exit 2;; esac
	rm -rf "outputs/$(STUDY)"

.PHONY: help env sync lab all $(STAGES) report docs compare sweep data test lint bench lock clean test-faults test-cells test-browser \
    binder-check

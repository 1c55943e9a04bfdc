# `make` lists the targets. Everything is installed into .venv from requirements/.
STUDY ?= quickstart
PYTHON ?= python3
export OMP_NUM_THREADS ?= $(shell $(PYTHON) -c "import os; print(min(8, os.cpu_count()))")
export JUPYTER_PREFER_ENV_PATH = 1
export TOKENIZERS_PARALLELISM = false

BIN := .venv/bin
ENV := .venv/.installed
LOCKS := requirements/lock.txt requirements/lock-torch.txt requirements/lock-torch-cpu.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# the small CPU-only build of torch where there is no NVIDIA driver: TORCH=cuda to overrule
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9 ]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "  STUDY=name (default quickstart): $$(ls params | grep -v -e sweeps -e README | xargs)"

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

lab: sync  ## open JupyterLab on the notebooks
	PYTHONWARNINGS="ignore:IProgress not found" $(BIN)/jupyter lab \
	    --LabApp.default_url=/lab/tree/notebooks

all: $(ENV)  ## run all stages of STUDY that are not up to date
	$(BIN)/python -m anbn.pipeline $(STUDY)

01 02 03 04 05: $(ENV)  ## run one stage of STUDY (and the stages it reads)
	$(BIN)/python -m anbn.pipeline $(STUDY) $@

report: $(ENV)  ## print the headline numbers of STUDY
	@$(BIN)/python -m anbn.pipeline $(STUDY) --report

data: $(ENV)  ## fetch what STUDY needs from outside (Narratives: of SUBJECTS="sub-001 ...")
	$(BIN)/python -m anbn.pipeline $(STUDY) --data --subjects="$(SUBJECTS)"

test: $(ENV)  ## run the tests
	$(BIN)/python -m pytest

lint: $(ENV)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(ENV)  ## run benchmarks/NAME.py
	@test -f "benchmarks/$(NAME).py" || { echo "NAME must be one of:" \
	    $$(basename -s .py benchmarks/*.py | grep -v peers); exit 2; }
	$(BIN)/python benchmarks/$(NAME).py

lock: $(ENV)  ## remake requirements/lock*.txt from environment.yml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python requirements/make_lock.py

clean:  ## delete the outputs of STUDY
	test -n "$(STUDY)" && rm -rf "outputs/$(STUDY)"

.PHONY: help env sync lab all 01 02 03 04 05 report data test lint bench lock clean

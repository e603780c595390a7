# The targets own the virtual environment: none asks you to activate anything.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TEST_JOBS ?= 2

.PHONY: help setup setup-dev demo loop serve test test-slow check audit docs lock bench gpu-test bench-gpu clean

help:            ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup:           ## Make the environment for serving
	@$(PYTHON) deploy/setup_env.py $(VENV)

setup-dev:       ## Make the environment for tests and checks
	@$(PYTHON) deploy/setup_env.py $(VENV) --dev

demo: setup      ## Ask questions of real documents, from nothing
	@$(BIN)/python deploy/demo.py

loop: setup-dev  ## From feedback to a promoted adapter; DATA=FILE USERS=N ANYWAY=1 (docs/closed-loop.md)
	@$(BIN)/python -m deploy.loop $(if $(DATA),--data $(DATA)) $(if $(USERS),--users $(USERS)) $(if $(ANYWAY),--anyway)

serve: setup     ## Serve on http://127.0.0.1:8000/v1
	@$(BIN)/fewshot models fetch
	@$(BIN)/fewshot serve

test: setup-dev  ## Run the tests, real vLLM on the CPU included
	@$(BIN)/fewshot models fetch
	@$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

test-slow: setup-dev  ## Run the tests that take minutes
	@$(BIN)/fewshot models fetch
	@$(BIN)/python -m pytest -m slow

check: setup-dev  ## Format, lint, types, import contracts, generated docs
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m deploy.generate_docs --check

audit:           ## Ask the advisory databases about every locked package (needs the network and uv)
	@$(PYTHON) deploy/audit.py

docs: setup-dev  ## Write the generated docs again
	@$(BIN)/python -m deploy.generate_docs

lock:            ## Resolve the lock files again (needs uv)
	@deploy/lock.sh

bench: setup-dev  ## Run the benchmarks this machine can run, and write docs/performance.md
	@$(BIN)/python -m bench all; met=$$?; $(BIN)/python -m bench page && exit $$met

# On a GPU host the interpreter is the host's own (docs/gpu-host.md).
GPU_PYTHON ?= python3

gpu-test:        ## On a GPU host: the tests that need a card, then bench-gpu
	@$(GPU_PYTHON) -m pytest -m gpu tests/gpu
	@$(MAKE) --no-print-directory bench-gpu

bench-gpu:       ## On a GPU host: its goals at 8B and 1B; DATA=PACKS also served = trained in bfloat16
	@worst=0; \
	$(GPU_PYTHON) -m bench gpu --shape 8b --out build/bench/8b || worst=$$?; \
	$(GPU_PYTHON) -m bench gpu --shape 1b --goals saturation --share 0.8 --out build/bench/1b || worst=$$?; \
	$(if $(DATA),$(GPU_PYTHON) -m bench served --data $(DATA) --device cuda --dtype bfloat16 || worst=$$?;) \
	exit $$worst

clean:           ## Remove the environment
	rm -rf $(VENV)

# Two commands do all the set-up: `make demo` and `make test`.
# Python 3.11 or later, make and the package registries are all they need.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
NOTEBOOKS := 01_sweep 02_compare 03_tune_and_export 04_latency 05_thinking 06_quantization
FRESH ?=

export JUPYTER_PLATFORM_DIRS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint bench lab tuner clean install lock picture
.DELETE_ON_ERROR:

install: $(READY)

$(READY): requirements/lock.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later found; install it or run: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "installing into .venv (about a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/lock.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The whole path on the embedded model. A second call finds every trial stored and calls no model;
# `make demo FRESH=1` measures anew, as another run.
demo: $(READY)
	@$(BIN)/soma-bench models pull
	@$(BIN)/soma-bench models quantize Q8_0 Q4_0
	$(BIN)/soma-bench sweep sweeps/demo.yaml $(if $(FRESH),--fresh)
	@for name in $(NOTEBOOKS); do \
		$(BIN)/soma-bench notebook notebooks/$$name.ipynb --html || exit 1; \
	done
	@$(BIN)/soma-bench report demo --profile routing_profiles/demo.json --out reports/demo.html
	@$(MAKE) --no-print-directory reports/example.txt
	@$(BIN)/soma-bench profile show routing_profiles/demo.json
	@if command -v node >/dev/null 2>&1; then node data/examples/print_routes.mjs reports/demo.config.mjs; \
		else echo "node is not installed: the exported module was not loaded"; fi
	@echo "done: look at reports/demo.html, reports/02_compare.html and reports/example.txt"

# The live analysis calls models, so it runs again only when the profile has changed.
reports/example.txt: routing_profiles/demo.json $(wildcard data/examples/*.json)
	$(BIN)/soma-bench run data/examples/*.json --profile routing_profiles/demo.json > $@ || \
		{ test $$? -eq 1 && echo "no report: the tiny model gave no usable answer this time" >> $@; }
	@cat $@

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: $(READY)
	@for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

lab: $(READY)
	$(BIN)/jupyter lab notebooks

# The tuner without notebooks: for this machine alone, and for who has the address with its token.
tuner: $(READY)
	@echo "open the address that is printed below; Ctrl-C stops it"
	@JUPYTER_PATH=notebooks $(BIN)/voila notebooks/tuner.ipynb --template=soma --no-browser \
		--Voila.ip=127.0.0.1 --Voila.auto_token=True

# The README's picture, from a finished demo.
picture: $(READY)
	$(BIN)/python docs/demo_picture.py

# The lock holds versions and hashes for Linux and macOS, and no address of any registry.
lock: $(READY)
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --all-extras --quiet pyproject.toml -o requirements/lock.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything sets itself up: a virtual environment with the exact versions of requirements.lock, then what was asked for.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all coverage check bench bench-peers docs evals kills kills-long lock page screenshots wheel mcpb release test-wheel try-newest format clean

demo: .venv/ready
	@$(BIN)/durable-workflows demo

test: .venv/ready
	@echo "The tests take about 9 minutes on two cores. make test-all adds the long ones: about 35 more."
	$(BIN)/python -m pytest -m "not long"

# Also the long tests: kill loops, the largest data, and what is tested again elsewhere (on a native Postgres, with clients of others).
test-all: test
	$(BIN)/python -m pytest -m long

# Only the loops that kill: anything, 300 times, while runs are parked and wake; and workers within steps that happen at most once. About ten minutes.
kills: .venv/ready
	$(BIN)/python -m pytest -m kills -n 2

# 1,000 kills in one project, in a process namespace of its own, outside the gate: about an hour and a half. KILLS=60 takes about six minutes; SEED chooses the victims again.
KILLS ?= 1000
kills-long: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m long.kills --kills $(KILLS) $(if $(SEED),--seed $(SEED))

# Which branches all tests but the kill loops take, also in the processes that they start; pyproject.toml has the least that is allowed.
coverage: .venv/ready
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -m "not kills"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python .ci/page.py --check
	$(BIN)/python -m pytest -q -n 0 tests/test_architecture.py

bench: .venv/ready
	$(BIN)/python -m tests.bench

bench-peers: .venv/ready
	$(BIN)/python -m tests.bench --peers

evals: .venv/ready
	$(BIN)/python -m tests.evals

# What comes from the code: the tables of the references, and the types of what the page and its server exchange.
docs: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m documents.tables
	PYTHONPATH=tests $(BIN)/python -m documents.typescript

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The built wheel in an environment of its own, in place of the checkout: all that depends on what is installed where.
WHEEL_TESTS := tests/mcp tests/templates tests/cli/test_commands.py tests/cli/test_new.py tests/web/test_getting_in.py tests/test_recovery.py \
	tests/test_environments.py tests/test_dependencies.py tests/test_searching.py tests/test_docs.py

test-wheel: wheel
	@rm -rf .venv-wheel
	@$(PYTHON) -m venv .venv-wheel
	@.venv-wheel/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	@.venv-wheel/bin/python -m pip install --quiet --no-deps dist/*.whl
	.venv-wheel/bin/python -m pytest -m "not long" $(WHEEL_TESTS)

# The page, built into the package: a wheel has it. Without this, what is in a checkout is built when it is first wanted.
page: .venv/ready
	@$(BIN)/python .ci/page.py

# The pictures in the README, of runs of a real project (tests/web/story), in Chromium. Look at them before you commit them.
screenshots: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m web.pictures

wheel: page
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null

# The bundle for clients that install a server from one file, like Claude Desktop.
mcpb: page
	@$(BIN)/python mcpb/build.py dist

# Wheel with PGlite and the page inside, sdist and bundle, built from the commit and tried.
release: .venv/ready
	@$(BIN)/python .ci/release.py

# The newest dbos, mcp, Node, PGlite and other libraries in an environment of their own, and what breaks there. ONLY=dbos moves one of them. About seven minutes.
try-newest: .venv/ready
	@$(BIN)/python .ci/newest.py $(if $(ONLY),--only $(ONLY))

lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --python-version 3.11 --upgrade --output-file requirements.lock

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=…")'
	@echo "Setting up .venv …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv .venv-wheel dist .pytest_cache .ruff_cache

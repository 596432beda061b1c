# Two commands do it all on a machine with Python >= 3.11, make and git: `make run` and `make test`.
PORT ?= 8000
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
export UV_PYTHON_DOWNLOADS ?= never
# Images forbid bytecode; here, without it, each process would compile the project anew, and pytest all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-stack programs check format clean drill bench bench-quick fuzz secrets dashboards
.DEFAULT_GOAL := run

run: .venv/.synced ## start everything; PORT=9000 moves all ports
	@exec .venv/bin/clearspan up --port $(PORT)

# The tests that wait most come first; whoever is done takes over half of what the other one has left.
test: .venv/.synced ## run all tests
	@exec .venv/bin/pytest --numprocesses auto --dist worksteal $(ARGS)

test-stack: programs ## the real collector, Jaeger, Prometheus and Loki with the committed configs
	@exec .venv/bin/pytest -m stack --numprocesses 2 --dist loadfile $(ARGS)

programs: .venv/.synced ## what test-stack runs and check renders with, built once into .stack/
	@.venv/bin/python -m tests.stack.programs

drill: .venv/.synced ## break one thing after the other under load, then kill at random; ARGS="--short payments"
	@exec .venv/bin/python -m drills $(ARGS)

bench: .venv/.synced ## what things cost, side by side; ARGS="--json cost.json --svg cost.svg"
	@.venv/bin/python -m benchmarks.cost $(ARGS)
	@.venv/bin/python -m benchmarks.chain
	@.venv/bin/python -m benchmarks.events
	@.venv/bin/python -m benchmarks.viewer

bench-quick: .venv/.synced ## in one line, in less than a minute: bare FastAPI, with contrib's telemetry, with this kit
	@exec .venv/bin/python -m benchmarks.cost --quick $(ARGS)

fuzz: .venv/.synced ## a hundred thousand hostile requests to the viewer; ARGS="--inputs 1000 --seed 1"
	@exec .venv/bin/python -m tests.observability.viewer.fuzz $(ARGS)

secrets: ## the passwords of compose.yaml, where they are not there yet
	@python3 deploy/passwords.py

dashboards: .venv/.synced ## write Grafana's dashboards from deploy/dashboards
	@.venv/bin/python -m deploy.dashboards

check: .venv/.synced ## lint, format, types, manifests, lock file
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python deploy/compose/check.py
	.venv/bin/python deploy/kubernetes/check.py
	$(UV) lock --check

format: .venv/.synced
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv .uv .clearspan

# With bytecode: without, the first start takes three times as long.
.venv/.synced: pyproject.toml uv.lock | $(UV)
	@echo "installing what uv.lock names into .venv"
	@$(UV) sync --locked --quiet --compile-bytecode
	@touch $@

# uv, into the project's own folder, where it is not on PATH.
.uv/bin/uv:
	@python3 -c 'import sys; sys.exit("Python 3.11 or newer is needed; python3 is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "installing uv into .uv"
	@python3 -m venv .uv || { echo "python3 cannot make virtual environments: install python3-venv, or uv" >&2; rm -rf .uv; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check uv

# Two commands do everything: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO_SECONDS ?= 60
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 600

# the suite starts a hundred processes: a module of Python is translated once, even where the environment says never
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format install model quality fuzz kafka soak docker-test clean

$(BIN)/eddyline: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

install: $(BIN)/eddyline

demo: install  ## live NetFlow v9 with attacks on UDP 2055, scored, for DEMO_SECONDS seconds (0 = until Ctrl-C)
	$(BIN)/eddyline demo --seconds $(DEMO_SECONDS)

check: install  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_imports.py

test: check  ## the whole suite, a file of tests to a process; four, since many wait
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

model: install  ## make artifacts/gae again: four benign hours of the simulated office, about four minutes on one core
	$(BIN)/eddyline train --model artifacts/gae --detector habits gae --epochs 30 --patience 30 --batch 4 --seed 1 \
	  --source 'simulate://office?hosts=300&seconds=14400&seed=7&traffic=100&campaigns=none&start=2026-01-05T08:00:00Z'

quality: install  ## every protocol in ../shared, three seeds: benchmarks/quality.md, under 40 minutes on two cores
	$(BIN)/python benchmarks/quality.py

fuzz: install  ## new random examples, then hostile NetFlow for FUZZ_SECONDS seconds, guided by coverage (kept in build/fuzz)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/pytest --hypothesis-profile explore tests/sources tests/dialects tests/sinks tests/test_windows.py
	$(BIN)/python -m tests.fuzz_netflow build/fuzz -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/

kafka: install  ## a real broker on 127.0.0.1:9092 for trying things out, until Ctrl-C; needs Java 17 and Maven
	$(BIN)/python tests/kafka/broker.py

soak: install  ## exporters -> collector -> Kafka -> two replicas -> Kafka for SOAK_SECONDS seconds, with kills; as kafka
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m tests.kafka.soak

docker-test:  ## the image and the compose file, for real, with Docker or podman; minutes once the layers are there (docker/README.md)
	docker/verify.sh

clean:
	rm -rf $(VENV) build dist src/*.egg-info

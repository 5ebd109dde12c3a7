# The commands of this repository, from a fresh clone with pip: `demo` with Python 3.10 or newer, the
# others with the versions that constraints.txt pins, which want 3.11.
INTERPRETER ?= python3
DEMO_S ?= 30
# Of the station that a wheelhouse is for.
TARGET ?= x86_64
PYTHON ?= 3.11
FUZZ_S ?= 600
PIP := -m pip --disable-pip-version-check install --quiet -c constraints.txt
BIN := .venv/bin

.PHONY: help demo demo-bundle setup test check profile chaos soak-runtime soak-cameras soak-swaps fuzz \
	wheelhouse deb \
	system-packages chaos-packages clean

help:
	@echo "make demo         the main job on a drawn production line, DEMO_S=$(DEMO_S) seconds (0: until Ctrl-C)"
	@echo "make setup        .venv with everything, for development"
	@echo "make test         all tests, two files at a time"
	@echo "make check        lint, format, types, import directions, packaging"
	@echo "make profile      where a frame's time goes on this machine"
	@echo "make chaos        the agent under faults, beside a witness (15 minutes, as root)"
	@echo "make soak-runtime the same for two hours, into docs/chaos.json; goes on where it was cut off"
	@echo "make soak-cameras every camera driver against its counterpart, into docs/cameras.json; likewise"
	@echo "make soak-swaps   1 000 swaps of bundles under load, into docs/swaps.json (up to two hours)"
	@echo "make fuzz         every input of the agent, for FUZZ_S=$(FUZZ_S) seconds"
	@echo "make wheelhouse   all wheels of a station without a network, TARGET=x86_64|aarch64 PYTHON=3.10|3.11|3.12"
	@echo "make deb          a Debian package for this architecture and the system's Python, into dist"
	@echo "make demo-bundle  make the demo's model anew, from drawn pictures (about 15 minutes)"

# The agent as a station gets it: no torch.
.venv-demo/installed: pyproject.toml constraints.txt
	$(INTERPRETER) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) -e '.[agent,cpu,demo]'
	@touch $@

demo: .venv-demo/installed
	.venv-demo/bin/ssn-agent demo --seconds $(DEMO_S)

.venv/installed: pyproject.toml constraints.txt
	$(INTERPRETER) -m venv .venv
	$(BIN)/python $(PIP) -e '.[dev]'
	@touch $@

setup: .venv/installed

system-packages:
	@sh tests/system-packages.sh

# Two processes, each with whole files, in their order: what the tests of a file share is made once,
# and the longest files, those of tests/acceptance, are not left to the end. One thread each.
test: setup system-packages
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m ssn_contract.schemas --check
	$(BIN)/python -m ssn_agent.labels.openapi --check
	$(BIN)/python deploy/check_packaging.py

profile: setup
	$(BIN)/python benchmarks/frame_profile.py

chaos-packages:
	@sh tests/system-packages.sh libfaketime iptables e2fsprogs gcc libc6-dev

chaos: setup chaos-packages
	PYTHONPATH=tests $(BIN)/python -m chaos --fresh --out chaos-out/chaos.json

soak-runtime: setup chaos-packages
	PYTHONPATH=tests $(BIN)/python -m chaos --counts soak --out docs/chaos.json

soak-cameras: setup system-packages
	PYTHONPATH=tests $(BIN)/python -m cameras --counts soak --out docs/cameras.json

soak-swaps: setup
	PYTHONPATH=tests $(BIN)/python -m chaos.swaps --counts soak --out docs/swaps.json

fuzz: setup
	PYTHONPATH=tests $(BIN)/python -m chaos.fuzz --seconds $(FUZZ_S)

wheelhouse: setup
	$(BIN)/python deploy/wheelhouse/make.py --target $(TARGET) --python $(PYTHON)

deb: setup
	$(BIN)/python deploy/debian/make.py

demo-bundle: setup
	$(BIN)/python deploy/demo/make_demo_bundle.py

clean:
	rm -rf .venv .venv-demo demo-out chaos-out

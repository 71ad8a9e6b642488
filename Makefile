# Each target first brings what it needs: see .ci/setup.
.PHONY: help run test check sim hosts bench clean
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
# tests side by side: `make test WORKERS=2`; one file's tests stay together, as they share a node. tests/ports.py has room for four
WORKERS := 0

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

run:  ## the demo on this machine: a hospital, a node, a gateway; prints one link
	@.ci/setup run
	@.venv/bin/wasl demo

test:  ## all tests
	@.ci/setup test
	PYTHONASYNCIODEBUG=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check:  ## lint, format, types, import arrows, sizes
	@.ci/setup test
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	PATH=.venv/bin:$$PATH cython-lint native
	$(PYTHON) -m pytest -q tests/test_tidy*.py -k "not imports_alone"  # that one takes as long as all others, and `make test` has it

sim:  ## every campaign: kills, power cuts, flipped bits, a simulated world and its planted faults, mutated messages (hours)
	@.ci/setup test
	$(PYTHON) tests/sim_kill.py --kills 2000
	$(PYTHON) tests/sim_kill_devices.py --kills 1000
	$(PYTHON) tests/sim_unplug.py --turns 1000 --kills 100
	$(PYTHON) tests/sim_power.py --states 1000000
	$(PYTHON) tests/sim_bits.py --flips 100000
	$(PYTHON) tests/sim_destinations.py --flips 50000
	$(PYTHON) tests/sim_outbox.py --lives 2000
	$(PYTHON) tests/sim_order.py --seeds 20000
	$(PYTHON) tests/sim_order.py --thief --seeds 5000
	$(PYTHON) -m tests.sim.mutants
	$(PYTHON) tests/fuzz_hl7.py --messages 10000000
	$(PYTHON) tests/fuzz_devices.py --inputs 10000000
	$(PYTHON) tests/fuzz_signatures.py --inputs 1000000

hosts:  ## two hosts over a line that is thin, long, lossy and cut, each killed once; what a drain uses of it (half an hour)
	@.ci/setup test
	$(PYTHON) tests/sim_hosts.py
	$(PYTHON) tests/bench/hosts.py
	$(PYTHON) tests/bench/offline.py

bench:  ## the figures of docs/performance.md
	@.ci/setup test
	$(PYTHON) tests/bench/run.py

clean:  ## remove .venv and everything built (never a data directory)
	rm -rf .venv peers build *.egg-info native/_kernels.c native/_kernels.*.so .mypy_cache .ruff_cache .hypothesis .pytest-work
	find gateway hl7 native node sync tests -name __pycache__ -prune -exec rm -rf {} +

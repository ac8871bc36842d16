# Every target is one command, and CI runs the same ones. `make` alone lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help quickstart demo-mcp demo-etl demo-release let-through test setup lint perf beside bench fuzz docs clean

# What `make test` runs, in this order; the first that fails ends it.
STAGES := setup lint test-rust test-verifiers test-clients test-feeds docs supply-chain hygiene

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: ## build both programs, then make, seal and verify a first bundle
	cargo build --release --locked --bins
	$${CARGO_TARGET_DIR:-target}/release/estoppel quickstart

demo-mcp: ## an MCP client and server with the gateway between them; STEP=1 lets you approve the held call yourself
	@.ci/setup python
	cargo build --release --locked --bins
	@ESTOPPEL_BIN_DIR=$${CARGO_TARGET_DIR:-target}/release .venv/bin/python examples/mcp-demo/demo.py

demo-etl: ## three calls that write to Postgres, an orphan behind the gateway's back, a replay that succeeds and one that fails
	cargo build --release --locked --bins
	@ESTOPPEL_BIN_DIR=$${CARGO_TARGET_DIR:-target}/release python3 examples/etl-demo/demo.py

demo-release: ## a policy proven, promoted, refused once it is loosened, mended and taken back; then the kit for an auditor
	cargo build --release --locked --bins
	@ESTOPPEL_BIN_DIR=$${CARGO_TARGET_DIR:-target}/release python3 examples/release-demo/demo.py

let-through: ## what others let through, and what happens to it here: a script for each row of the table in README.md
	cargo build --release --locked --bins
	@ESTOPPEL_BIN_DIR=$${CARGO_TARGET_DIR:-target}/release python3 examples/let-through/table.py

test: ## all that CI checks: setup, lint, Rust, verifiers, clients, feeds, API documentation, supply chain, hygiene
	@set -e; for stage in $(STAGES); do .ci/$$stage; done

setup: ## install by name what the tests need
	@.ci/setup

lint: ## format, clippy without warnings, shell scripts
	@.ci/lint

perf: ## load tests against the budgets of k6/budgets.yml
	@.ci/perf

beside: ## what shadow policies and a tapped detector add to a call, in one interleaved run
	@.ci/beside

bench: ## benchmarks of the hot path
	cargo bench --workspace --benches --locked

fuzz: ## every fuzz target for FUZZ_SECONDS (60)
	@.ci/fuzz

detectors-report: ## how often detectors are right, on our corpus and on public ones, into docs/detectors.md
	UPDATE_GOLDEN=1 cargo test -q -p estoppel-detect --test report
	@.ci/detectors-report

docs: ## the API documentation, without warnings
	@.ci/docs

clean: ## remove what was built and installed here
	cargo clean
	rm -rf .venv test/node_modules test/fuzz/target

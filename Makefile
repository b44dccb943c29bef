# The verbs of this repository; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What `make start` builds with: the binary one would deploy. PROFILE=dev builds sooner and serves
# slower.
PROFILE ?= release
# Flags handed on by `make start`, such as ARGS="-c config.toml".
ARGS ?= --dev
# How long `make fuzz` stays with each target.
FUZZ_SECONDS ?= 30

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# What is built with PROFILE.
BOBOLINK := $(TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/bobolink
# What starts a MongoDB replica set, built with it.
REPLICA_SET := $(dir $(BOBOLINK))examples/replica_set
# The binary the third-party suites run against.
GATEWAY_BIN ?= $(abspath $(TARGET_DIR))/debug/bobolink
export GATEWAY_BIN

NODE_SUITE := tests/thirdparty/node
SDK := sdk-js
CHAT := examples/chat
BROWSER_SUITE := tests/thirdparty/browser
PYTHON_SUITE := tests/thirdparty/python
RUNTIMES_SUITE := tests/thirdparty/runtimes

.PHONY: help
help: ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-12s %s\n", $$1, $$2 }'

.PHONY: start
start: ## Build the gateway and run it for development
	scripts/setup build
	cargo build --locked --profile $(PROFILE) --bin bobolink
	exec $(BOBOLINK) serve $(ARGS)

.PHONY: build
build: ## Build the library, the binary and every test
	scripts/setup build
	cargo build --locked --all-targets

.PHONY: test
test: lint test-rust test-sdk test-pages test-node test-browser test-python ## Check the style and run every test

.PHONY: test-rust
test-rust: ## Run the Rust tests
	scripts/setup redis mongo haproxy compose
	cargo test --locked --no-fail-fast

.PHONY: test-sdk
test-sdk: debug-binary ## Check, build and test our JavaScript SDK, alone and against the gateway
	scripts/setup sdk
	cd $(SDK) && npm test --silent

.PHONY: test-pages
test-pages: ## Check and test the chat, and that the committed bundles are what their sources make
	scripts/setup chat
	cd $(CHAT) && npm test --silent
	node scripts/pages.mjs --check

.PHONY: test-node
test-node: debug-binary ## Run the npm package centrifuge's suite against the gateway
	scripts/setup node redis mongo
	cargo build --locked --example replica_set
	cd $(NODE_SUITE) && npm test --silent

.PHONY: test-browser
test-browser: debug-binary ## Try the chat, the playground and the SDK in a browser
	scripts/setup browser sdk
	cd $(BROWSER_SUITE) && npm test --silent

.PHONY: runtimes
runtimes: debug-binary ## Try the SDK in Deno and Bun (downloads 200 MB of them, so not part of `make test`)
	scripts/setup sdk runtimes
	cd $(SDK) && npm run build --silent
	cd $(RUNTIMES_SUITE) && npm test --silent

.PHONY: test-python
test-python: debug-binary ## Run the Python client's and API client's suite against the gateway
	scripts/setup python
	.venv/bin/python -m pytest $(PYTHON_SUITE)

.PHONY: debug-binary
debug-binary:
	cargo build --locked --bin bobolink

.PHONY: cluster
cluster: ## Start the cluster of docker-compose.yml as local processes, until Ctrl-C
	scripts/setup build redis mongo haproxy
	cargo build --locked --profile $(PROFILE) --bin bobolink --example replica_set
	exec $(BOBOLINK) drill cluster --replica-set $(REPLICA_SET)

.PHONY: drill
drill: ## Break local clusters in every way, twice, and check what clients notice (under 15 minutes)
	scripts/setup build redis mongo haproxy
	cargo build --locked --profile $(PROFILE) --bin bobolink --example replica_set
	$(BOBOLINK) drill all --rounds 2
	$(BOBOLINK) drill mongo-failover --replica-set $(REPLICA_SET)

# Centrifugo's program, 6.9 or newer, for `make mixed` and `make sdk-peer`.
CENTRIFUGO ?=

.PHONY: mixed
mixed: ## Two nodes of Centrifugo (CENTRIFUGO=path) beside two of ours on one Redis
	@[ -x "$(CENTRIFUGO)" ] || { echo "mixed: not run, CENTRIFUGO= names no program" >&2; exit 3; }
	scripts/setup build redis haproxy
	cargo build --locked --profile $(PROFILE) --bin bobolink
	$(BOBOLINK) drill mixed mixed-failover --centrifugo "$(CENTRIFUGO)"

.PHONY: sdk-peer
sdk-peer: ## Run our JavaScript SDK's suite against Centrifugo (CENTRIFUGO=path)
	@[ -x "$(CENTRIFUGO)" ] || { echo "sdk-peer: not run, CENTRIFUGO= names no program" >&2; exit 3; }
	scripts/setup sdk
	cd $(SDK) && GATEWAY_BIN="$(abspath $(CENTRIFUGO))" npx vitest run test/behaviour/gateway.test.ts test/behaviour/lifetimes.test.ts

.PHONY: mutants
mutants: ## Break the lines of tests/mutants.toml and see their tests fail
	scripts/mutants

.PHONY: lint
lint: ## Check format, lints, licences and sources of dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo tree --locked --manifest-path fuzz/Cargo.toml >/dev/null
	scripts/check-dependencies

.PHONY: fmt
fmt: ## Format the Rust code
	cargo fmt

.PHONY: pages
pages: ## Bundle the chat, and the SDK for the playground, into the files the gateway embeds
	scripts/setup chat
	node scripts/pages.mjs

.PHONY: setup
setup: ## Install what building and the third-party suites need
	scripts/setup

.PHONY: bench
bench: ## Run the benchmarks, then both servers side by side for under 30 minutes
	scripts/setup build redis mongo
	cargo build --locked --release --example replica_set
	HISTORY_REPLICA_SET=$(abspath $(TARGET_DIR))/release/examples/replica_set cargo bench --locked
	cargo build --locked --release --bin bobolink --example limit
	bench/compare --quick

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZ_SECONDS (needs cargo-fuzz and a nightly toolchain)
	@cargo fuzz --version >/dev/null 2>&1 || { \
		echo "fuzz: not run, cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2; exit 3; }
	for target in $$(cargo fuzz list); do \
		cargo +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

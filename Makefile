# The commands of the project. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Programs that the tests and the demonstration run, and the Debian packages that hold them.
NET_PACKAGES := iptables iproute2
STORE_PACKAGES := etcd-server redis-server
BENCH_PACKAGES := haproxy nginx-light binutils
# Further arguments of weft-bench.
BENCH ?=
# How long `make fuzz` runs each target, and which; all of them if none is named.
SECONDS := 60
TARGETS ?=
# What weft-micro does: check or renew.
MICRO ?= check
DENY_VERSION := 0.20.2
# Tests that run programs which `make test-interop` builds.
INTEROP := weft-interop/programs

.PHONY: help demo demo-check test test-interop record-interop fuzz lint fmt release bench bench-micro build packages store-packages bench-packages

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1 \t\2/' | expand -t 22

demo: packages ## Run a whole mesh on this machine until Ctrl-C
	@scripts/build-demo.sh
	@$(TARGET_DIR)/debug/weft up

demo-check: packages ## The same without a person: verify each claim and clean up
	@scripts/build-demo.sh
	@$(TARGET_DIR)/debug/weft up --check

build: ## Build every program
	$(CARGO) build --workspace --bins

test: packages store-packages ## Install what is missing and run every test
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --no-fail-fast

test-interop: packages ## The suites against software that others wrote
	@scripts/install-envoy.sh
	$(CARGO) build --workspace --bins
	$(TARGET_DIR)/debug/weft-diff $(TARGET_DIR)/envoy/bin/envoy
	$(CARGO) test --workspace --test differential
	scripts/manifests.sh check
	scripts/build-interop.sh
	scripts/install-h2spec.sh
	$(CARGO) test --workspace --features $(INTEROP) --test control_planes --test h2spec

record-interop: ## Record Envoy's answers for the differential cases
	@scripts/install-envoy.sh
	$(CARGO) build --workspace --bins
	$(TARGET_DIR)/debug/weft-diff --update $(TARGET_DIR)/envoy/bin/envoy

fuzz: ## Fuzz what reads bytes from outside; SECONDS for each of TARGETS, GUIDED=1 by coverage
	@scripts/fuzz.sh $(SECONDS) $(TARGETS)

lint: ## rustfmt, clippy, rustdoc and cargo-deny, warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --features $(INTEROP) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	scripts/deny.sh $(DENY_VERSION)

fmt: ## Format the sources
	$(CARGO) fmt --all

release: ## Build weft-sidecar as it is shipped: optimised for what the load tests showed
	@scripts/release.sh

bench: bench-packages ## Measure side by side with the proxies found on this machine; BENCH=--quick for a short run
	$(CARGO) build --release --bin weft-control-plane --bin weft-bench
	sidecar=$$(scripts/release.sh --or-plain | tail -n 1); \
	$(TARGET_DIR)/release/weft-bench --sidecar "$$sidecar" --output benches/results.md $(BENCH)

bench-micro: ## Count the instructions of hot functions and compare with the baseline; MICRO=renew to write it anew
	@scripts/install.sh valgrind
	$(CARGO) build --profile quick-release --bin weft-micro
	$(TARGET_DIR)/quick-release/weft-micro $(MICRO)

packages:
	@scripts/install.sh $(NET_PACKAGES)

store-packages:
	@scripts/install.sh $(STORE_PACKAGES)

bench-packages:
	@scripts/install.sh $(BENCH_PACKAGES) || echo "going on without the proxies that are missing"
	@scripts/install-envoy.sh || echo "going on without Envoy"

# The commands of everyday work; `make help` lists them. The work itself is in cargo and in the scripts that are named here.

.PHONY: help build test demo bench lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the programs, optimised as they ship, in target/programs
	cross/programs

test: ## every test, from nothing; without root it says which it leaves out
	tests/run

demo: ## a fleet of three devices with real containers, one of which loses power
	tests/demo

bench: ## the figures of BENCHMARKS.md, beside what the Docker Engine alone needs
	tests/bench

lint: ## format, clippy, documentation, dependencies
	tests/run format lint docs dependencies

clean: ## removes what was built, and what a broken-off test run left behind
	tests/run clean
	cargo clean

# make demo    the whole story on this machine, in a minute
# make test    everything: format, lints, unit and end-to-end tests with real peers, documentation
# make bench   figures beside direct connections and wireguard-go, as a table and in target/bench.json
# make postgres-suites   PostgreSQL's own regression and isolation suites, direct and through the gateway, compared
# make build   the release binary, target/release/sallyport

export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: demo test bench postgres-suites build setup peers

demo: setup
	@cargo build --locked --workspace --bins
	@target/debug/sallyport demo

test: peers
	@build/test

bench: peers
	@cargo build --locked --release --workspace --bins
	@target/release/bench

postgres-suites: peers
	@cargo build --locked --release -p e2e --bins
	@build/postgres-suites

build: setup
	cargo build --locked --release -p sallyport

setup:
	@build/setup

peers:
	@build/setup peers

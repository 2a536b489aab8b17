# lockstep. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps build demo format lint test sim mutants soak bench fuzz chart release reproduce packages clean

# Pebble's zstd in Go, as in the packages: the one in C takes a minute to compile.
export GOFLAGS += -tags=pebblegozstd

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  := $(shell git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)
COMMITTED := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

ARGS     ?=#       of `lockstep demo`
PKG      ?= ./daemon ./cmd/lockstep ./cdc/mysql ./internal/sim ./cdc/postgres ./internal/demo ./internal/dbtest ./deploy ./...# packages to test, those that take longest first
RACE     ?= -race# empty: without the race detector
TIMEOUT  ?= 30m#   of one package's tests: against a hang, not for speed
MINUTES  ?= 10#    of `make sim`
FUZZTIME ?= 20s#   for each fuzz target
MUTANTS  ?= all#   or a part of the names of mutants
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64# of `make release` and `make reproduce`
BENCH    ?= .#     pattern of benchmarks
RUN      ?= Soak#  pattern of the tests of `make soak`

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

deps: ## install what is missing: PostgreSQL 15 and 18, MariaDB 10.11, MySQL 9.7, Prometheus, a C compiler, npm
	@scripts/deps

build: ## build bin/lockstep
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/lockstep ./cmd/lockstep

demo: deps build ## run the demo on real servers: make demo ARGS="..."
	bin/lockstep demo $(ARGS)

format:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted by gofmt:" $$files; exit 1; fi

lint: format ## gofmt, go vet, staticcheck
	go vet ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go vet ./cmd/lockstep
	go tool staticcheck ./...

test: deps format ## all tests, and gofmt; `make lint` has the rest (PKG=./align/... RACE= for a quick look)
	GOGC=400 GORACE=atexit_sleep_ms=0 GOFLAGS="$$GOFLAGS -gcflags=all=-dwarf=false" go test -ldflags='-linkmode=internal -s -w' -p 3 -parallel 4 $(RACE) -vet=off -timeout $(TIMEOUT) $(PKG)
	$(if $(filter ./...,$(PKG)),$(MAKE) --no-print-directory chart)

# With the standard library as `make test` has it; Helm and Kubernetes, which are much, are compiled as fast as can be.
chart: ## the tests of the Helm chart, a module of their own; `make test` runs them
	cd deploy/helm && GOFLAGS= go test $(RACE) -gcflags='all=-dwarf=false -d=checkptr=0 -race=false -N -l' -gcflags=std=-dwarf=false -ldflags='-linkmode=internal -s -w' -vet=off ./...

sim: ## the whole monitor in a world that breaks, for MINUTES with fresh seeds (SEED= N= : those histories again)
	$(if $(SEED),SEED=$(SEED) N=$(or $(N),1),SEED=1 N=0 MINUTES=$(MINUTES)) go test -count=1 -v -timeout 24h -run 'TestHistories|TestRegressions' ./internal/sim

mutants: ## faults planted in the product, each of which the simulation must see (MUTANTS=part of a name)
	MUTANTS='$(MUTANTS)' go test -count=1 -v -timeout 3h -parallel 2 -run '^TestMutants$$' ./internal/sim

soak: deps ## the long tests, hours of them
	LOCKSTEP_SOAK=1 go test -count=1 -v -timeout 3h -run '$(RUN)' $(PKG)

bench: deps ## the benchmarks (BENCH=pattern)
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

fuzz: ## every fuzz target for FUZZTIME
	@scripts/fuzz $(FUZZTIME)

release: ## archives, their SHA256SUMS and lists of what is in them, into dist/
	go run ./cmd/release -version '$(VERSION)' -commit '$(COMMIT)' -time '$(COMMITTED)' -platforms '$(PLATFORMS)'

reproduce: ## make the release twice, in different folders, and compare the bytes
	@scripts/reproduce '$(VERSION)' '$(COMMIT)' '$(COMMITTED)' '$(PLATFORMS)'

packages: ## deb and rpm, into dist/
	@scripts/packages

clean: ## remove what was built; the servers' programs in the cache folder stay
	rm -rf bin dist

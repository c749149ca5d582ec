# Everything a contributor runs. "make" alone lists the targets.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ARGS    ?=
PKG     ?= ./...

# The linters have a module of their own, so that they never decide versions
# for the server.
LINT := $(GO) tool -modfile=tools/lint/go.mod

# The race detector watches all of our code, and not the SQLite that was
# translated from C: its every step costs ten times as much under it, which is
# five times for all the tests, and no two goroutines ever share a connection.
# Nor does it watch what packs and hashes: loops over bytes of one goroutine.
UNWATCHED := modernc.org/sqlite/lib modernc.org/libc modernc.org/memory compress/flate hash/crc32 golang.org/x/crypto/argon2 golang.org/x/crypto/blake2b
RACE := -race $(foreach p,$(UNWATCHED),-gcflags=$(p)=-race=false)

# The supervisor of engines, which goes into the server's binary.
SEAL := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o internal/executor/seal.bin ./cmd/seal

# By this name, make -n shows what it would do instead of doing it.
SELF = $(MAKE)

.DEFAULT_GOAL := help
.PHONY: help build demo engine legacy deps generate fmt check lint vuln test test-short screenshots bench model chaos e2e-vcs e2e-kubernetes cover

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build bin/interlock, one static binary
	$(SEAL)
	CGO_ENABLED=0 $(GO) build -tags seal -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/interlock ./cmd/interlock

demo: build ## run the quickstart on a fresh server; ARGS=--exit stops it at the end
	@$(GO) run ./tools/demo $(ARGS)

engine: ## build the pinned OpenTofu into the cache, once (minutes)
	@tools/engine.sh

legacy: ## build the old Terraform clients of the tests into the cache, once (minutes)
	@tools/legacy.sh

deps: ## install what the tests need from the system's packages, where missing
	@tools/deps.sh

# From the root only: generated code holds the paths seen from where templ ran.
generate: ## write the *_templ.go files anew
	$(GO) tool templ generate

fmt: ## format Go and templ files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')
	$(GO) tool templ fmt .

# Compares before with after, not with git: generated code that is not yet
# committed is fine, stale code is not.
check: ## see that generated code is fresh, gofmt, vet and staticcheck are content
	@sums() { git ls-files -co --exclude-standard '*_templ.go' | xargs -r sha256sum; }; \
	before=$$(sums) && $(GO) tool templ generate && after=$$(sums) && \
	if [ "$$before" != "$$after" ]; then echo "check: the *_templ.go files were stale and are now written anew" >&2; exit 1; fi
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "check: run make fmt for:" $$unformatted >&2; exit 1; fi
	$(GO) vet ./...
	$(LINT) staticcheck ./...

lint: check ## check, then golangci-lint where it is installed
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "lint: golangci-lint is not installed; its own checks were left out" >&2; fi

vuln: ## look for known vulnerabilities in what the binary calls (needs the network)
	$(LINT) govulncheck ./cmd/...

# One build after the other: each takes all cores by itself. The contract is
# asked with the race detector on PostgreSQL and without it on SQLite, which the
# detector slows most; the vendor's client asks beside that, since both wait a
# lot. The pages in a browser come last and alone: they measure how long a
# reader waits.
test: deps ## run all tests: both databases, real engines, old and new clients, browser
	@$(SEAL)
	@set -e; \
	INTERLOCK_TEST_TOFU=$$(tools/engine.sh); \
	INTERLOCK_TEST_TF011=$$(tools/legacy.sh tf011); \
	INTERLOCK_TEST_TF012=$$(tools/legacy.sh tf012); \
	INTERLOCK_TEST_PROVIDER=$$(tools/provider.sh); \
	INTERLOCK_TEST_S3=$$(tools/s3.sh); \
	INTERLOCK_TEST_GCS=$$(tools/gcs.sh); \
	INTERLOCK_TEST_AZURE=$$(tools/azurite.sh); \
	INTERLOCK_TEST_THING=$$(tools/thing.sh); \
	INTERLOCK_TEST_AXE=$$(tools/axe.sh); \
	INTERLOCK_TEST_GITEA=$$(tools/gitea.sh cached); \
	INTERLOCK_TEST_OIDC=$$(tools/oidc.sh); \
	export INTERLOCK_TEST_GCS INTERLOCK_TEST_AZURE INTERLOCK_TEST_AXE INTERLOCK_TEST_THING INTERLOCK_TEST_OIDC INTERLOCK_TEST_GITEA INTERLOCK_TEST_TOFU INTERLOCK_TEST_TF011 INTERLOCK_TEST_TF012 INTERLOCK_TEST_PROVIDER INTERLOCK_TEST_S3; \
	command -v terraform >/dev/null || export INTERLOCK_ENGINE_PATH=$$INTERLOCK_TEST_TOFU; \
	some=$$($(GO) list $(PKG) | grep -v /internal/browser$$ || true); \
	[ -z "$$some" ] || nice tools/with-postgres.sh $(GO) test -vet=off -tags seal $(RACE) -timeout 25m $(ARGS) $$some; \
	beside=; said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
	if [ -z "$(ARGS)" ] && [ "$(PKG)" = ./... ]; then $(SELF) conformance CONFORMANCE=-quick >"$$said" 2>&1 & beside=$$!; fi; \
	good=yes; ! $(GO) list $(PKG) | grep -q /internal/contract$$ || nice $(GO) test -tags seal -timeout 15m $(ARGS) ./internal/contract || good=; \
	[ -z "$$beside" ] || wait $$beside || good=; cat "$$said"; [ -n "$$good" ]; \
	! $(GO) list $(PKG) | grep -q /internal/browser$$ || nice $(GO) test -tags seal -timeout 15m $(ARGS) ./internal/browser

conformance: build ## run the vendor's client's own tests and hold them against the list (CONFORMANCE=-tfe: with administration)
	@PATH="$$PATH" INTERLOCK_ENGINE_PATH=$${INTERLOCK_ENGINE_PATH:-$$(command -v terraform || tools/engine.sh)} $(GO) run ./tools/conformance $(CONFORMANCE)

test-short: ## run what needs nothing installed: SQLite only, no old clients, no race detector
	$(GO) test -short $(ARGS) $(PKG)

SHOTS ?= screenshots

screenshots: deps ## draw every page in light and dark, wide and narrow, into SHOTS (screenshots/)
	@$(SEAL)
	@mkdir -p $(SHOTS)
	@INTERLOCK_TEST_SCREENSHOTS=$(abspath $(SHOTS)) $(GO) test -tags seal -run 'TestEveryPage$$' -count 1 -v -timeout 10m $(ARGS) ./internal/browser
	@echo "$$(ls $(SHOTS)/page-*.png | wc -l) pictures are in $(SHOTS)"

bench: build ## measure beside the bare engine, on both databases
	tools/with-postgres.sh $(GO) run ./tools/bench $(ARGS)

model: ## walk 100,000 random steps beside the reference model of a run's life
	$(GO) test ./internal/run -run TheServiceFollowsTheModel -count 1 -v -timeout 30m -model-steps 100000 $(ARGS)

chaos: ## run the long crash and failure tests (TestChaos...)
	@$(SEAL)
	@set -e; INTERLOCK_TEST_S3=$$(tools/s3.sh); export INTERLOCK_TEST_S3; INTERLOCK_TEST_CHAOS=1 tools/with-postgres.sh $(GO) test -tags seal -run '^TestChaos' -count 1 -timeout 240m -v $(ARGS) $(PKG)

e2e-vcs: ## run the tests of version control against a real forge, which is built once (minutes)
	@$(SEAL)
	@set -e; INTERLOCK_TEST_GITEA=$$(tools/gitea.sh); export INTERLOCK_TEST_GITEA; \
	command -v terraform >/dev/null || export INTERLOCK_ENGINE_PATH=$$(tools/engine.sh); \
	$(GO) test -tags seal -run 'Forge' -count 1 -v -timeout 10m $(ARGS) ./internal/vcs

e2e-kubernetes: ## run the Kubernetes executor against a real API server and its controllers, which are built once (minutes)
	@$(SEAL)
	@set -e; INTERLOCK_TEST_KUBERNETES=$$(tools/kube.sh); export INTERLOCK_TEST_KUBERNETES; \
	command -v terraform >/dev/null || export INTERLOCK_ENGINE_PATH=$$(tools/engine.sh); \
	tools/with-postgres.sh $(GO) test -tags seal -run TestKubernetes -count 1 -v -timeout 20m $(ARGS) ./internal/runner/kube

cover: ## measure what the tests cover, all packages together
	tools/with-postgres.sh $(GO) test -coverpkg ./internal/... -coverprofile coverage.out $(ARGS) $(PKG)
	$(GO) tool cover -func coverage.out | tail -n 1

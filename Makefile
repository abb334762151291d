# Names for the longer runs. "go test ./..." alone is the gate.

COMMIT  := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
LDFLAGS := -X holdfast/internal/version.stamp=$(COMMIT)

SEED ?= 1
N    ?= 100
T    ?= 30s
D    ?= 30m

PREFIX ?= /usr/local
IMAGE  ?= holdfast

.PHONY: build image install compose test race e2e torture busy sim fuzz bench cover lint

build: ## both binaries in bin/, stamped with the commit
	go build -ldflags '$(LDFLAGS)' -o bin/ ./cluster-service ./cluster-ctl

image: ## the container image, from the Dockerfile
	DOCKER_BUILDKIT=1 docker build --build-arg COMMIT=$(COMMIT) -t $(IMAGE) .

install: build ## programs, manual pages, completion and the systemd unit, below PREFIX (and DESTDIR)
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/cluster-service bin/cluster-ctl
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,share/man/man1 share/man/man8 share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d)
	bin/cluster-ctl man > $(DESTDIR)$(PREFIX)/share/man/man1/cluster-ctl.1
	bin/cluster-service man > $(DESTDIR)$(PREFIX)/share/man/man8/cluster-service.8
	for program in cluster-ctl cluster-service; do \
		bin/$$program completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program && \
		bin/$$program completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program && \
		bin/$$program completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish || exit 1; \
	done
	sed 's,/usr/local/bin,$(PREFIX)/bin,' deploy/systemd/holdfast.service | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/holdfast.service
	install -D -m 0644 deploy/systemd/holdfast.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/holdfast.conf

compose: ## the docker-compose deployment on this machine's engine
	go test -tags e2e -count 1 -timeout 45m -v ./test/compose

test:
	go test ./...

race: ## packages that hold no tests are not built
	go test -race -timeout 20m $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)

e2e: build ## real processes, one package at a time: they share ports and cores
	go test -tags e2e -count 1 -p 1 -timeout 30m -v ./test/...

torture: ## kill -9, freezes and restarts of real peers under load, for D
	TORTURE=$(D) go test -tags e2e -count 1 -timeout 0 -v -run '^TestTorture$$' ./test/e2e

busy: ## three real peers and all cores at full load for D; tells how often the leader changed
	BUSY=$(D) go test -tags e2e -count 1 -timeout 0 -v -run '^TestBusyPeers$$' ./test/e2e

sim: ## N simulated clusters, beginning with seed SEED
	SIM_SEED=$(SEED) SIM_RUNS=$(N) go test -count 1 -timeout 60m ./internal/sim

fuzz: ## each fuzzer for T
	@grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r dir; do \
		for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | sed 's/func //'); do \
			echo "$$dir $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(T) "$$dir" || exit 1; \
		done; \
	done

bench:
	go test -run '^$$' -bench . -benchmem ./...

cover:
	go test -coverpkg ./... -coverprofile coverage.out ./...
	go tool cover -html coverage.out -o coverage.html
	go tool cover -func coverage.out | tail -n 1

lint:
	go test -count 1 ./internal/lint

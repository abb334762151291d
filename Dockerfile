# The image with both programs. docker-compose.yml builds it; by hand:
#
#     docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t holdfast .
#
# It needs BuildKit, the default of Docker since version 23.

ARG GO_VERSION=1.26.8
FROM golang:${GO_VERSION} AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOMODCACHE=/go/pkg/mod GOCACHE=/root/.cache/go-build
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG COMMIT=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -trimpath -ldflags "-s -w -X holdfast/internal/version.stamp=${COMMIT}" -o /out/bin/ ./cluster-service ./cluster-ctl
# A new volume gets the owner and mode of the folder that it covers.
RUN mkdir -p /out/data /out/secrets && chmod 0700 /out/data /out/secrets

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/secrets /run/secrets
COPY --from=build /out/bin/ /usr/local/bin/
ENV PATH=/usr/local/bin HOME=/data CLUSTER_DIR=/data
USER 65532:65532
VOLUME /data
# REST API, IPFS proxy, cluster swarm, Pinning Service API, gateway, IPFS swarm
EXPOSE 9094 9095 9096 9097 8080 4001/tcp 4001/udp
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["cluster-service", "health", "ready"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["cluster-service"]
CMD ["daemon"]

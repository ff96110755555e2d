# Builds a fully static binary on any architecture that Go and Rust know; build for another one on a machine of its kind.

FROM docker.io/library/golang:1.26.8-bookworm AS modules
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download

# The tokenizer library takes minutes. Its stage sees only what it is made of, so that it is built again only for that.
FROM docker.io/library/rust:1.95.0-bookworm AS tokenizers
ENV GOPATH=/go PATH=/usr/local/go/bin:$PATH
COPY --from=modules /usr/local/go /usr/local/go
COPY --from=modules /go/pkg/mod /go/pkg/mod
WORKDIR /src
COPY Makefile go.mod go.sum ./
COPY internal/tokenizer/native internal/tokenizer/native
RUN make lib

FROM modules AS build
ARG TARGETARCH
ARG VERSION=dev
ARG REVISION=unknown
ARG BUILD_DATE=unknown
ENV GOCACHE=/go/cache
COPY . .
COPY --from=tokenizers /src/build/lib/libtokenizers.a build/lib/libtokenizers.a
RUN --mount=type=cache,target=/go/cache \
    GOARCH=${TARGETARCH} make --assume-old=build/lib/libtokenizers.a static \
      VERSION="${VERSION}" REVISION="${REVISION}" BUILD_DATE="${BUILD_DATE}" && \
    install -D -t build/rootfs/bin bin/inferprobe && \
    install -D -m 0644 -t build/rootfs/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt && \
    install -m 0644 -t build/rootfs LICENSE && \
    mkdir -p build/rootfs/var/lib build/state

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
ARG BUILD_DATE=unknown
LABEL org.opencontainers.image.title="inferprobe" \
      org.opencontainers.image.description="Measures LLM inference endpoints from the outside" \
      org.opencontainers.image.source="https://github.com/inferprobe/inferprobe" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${BUILD_DATE}"
COPY --from=build /src/build/rootfs /
# History and downloaded tokenizers: the only folder that must be writable.
COPY --from=build --chown=65532:65532 /src/build/state /var/lib/inferprobe
ENV HF_HOME=/var/lib/inferprobe/huggingface
WORKDIR /var/lib/inferprobe
USER 65532:65532
EXPOSE 9923
ENTRYPOINT ["/bin/inferprobe"]
CMD ["serve"]

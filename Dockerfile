# syntax=docker/dockerfile:1

# The gateway in an image of its own: docker build -t bobolink .
# What is sent to the builder stands in .dockerignore, as a list of what is needed.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# Downloads and compiled dependencies stay on the builder, so that a change of ours compiles ours alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin bobolink \
    && install -m 755 target/release/bobolink /bobolink

FROM debian:bookworm-slim

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Bobolink" \
      org.opencontainers.image.description="A realtime gateway that speaks the Centrifuge protocol" \
      org.opencontainers.image.source="https://github.com/bobolink/bobolink" \
      org.opencontainers.image.documentation="https://github.com/bobolink/bobolink/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Certificates of authorities, for Redis and key sets over TLS. The user has no home and no shell.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin bobolink

COPY --from=build /bobolink /usr/local/bin/bobolink

# A config.toml that is mounted here is found. Variables (BOBOLINK_…) win over it.
WORKDIR /etc/bobolink
# What operators ask has a port of its own, which is not to be published to the world.
ENV BOBOLINK_HTTP_SERVER_INTERNAL_PORT=9000 \
    BOBOLINK_HEALTH_ENABLED=true \
    BOBOLINK_PROMETHEUS_ENABLED=true

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001

# Clients; health, metrics and the server API; the agent for HAProxy, if http_server.agent_port says so.
EXPOSE 8000 9000 9100

HEALTHCHECK --interval=5s --timeout=4s --start-period=15s --retries=3 \
    CMD ["bobolink", "healthcheck"]

# Clients are sent away one by one: let `docker stop --time` be longer than shutdown.timeout (30s).
STOPSIGNAL SIGTERM
ENTRYPOINT ["bobolink"]
CMD ["serve"]

# The image of the init container: something that can copy a file, the file, and the command, which checks the settings.
# Neither the image egress-shim (no cp in it) nor your own (distroless has none either) can do that. Nothing is run, so
# one machine builds it for both architectures:
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example/egress-shim-init -f init.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=alpine:3

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/ /usr/local/
# A number, which runAsNonRoot can check.
USER 65532:65532

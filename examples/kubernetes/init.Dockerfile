# The image of the init container: something that can copy a file, and the file.
#
#   docker build -t registry.example/egress-shim-init -f init.Dockerfile .
#
# Neither the image egress-shim (no cp in it) nor your own (distroless has none either) can do that.
ARG EGRESS_SHIM=egress-shim
ARG BASE=busybox:stable-musl

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/lib/libegress_shim.so /usr/local/lib/
# A number, which runAsNonRoot can check.
USER 65532:65532

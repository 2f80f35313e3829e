# The image of the init container: the library, a program that copies it, and the command, which checks the settings.
# The image egress-shim has no cp, and neither has a distroless image of yours. The build runs nothing, so one machine
# builds the image for both architectures:
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example/egress-shim-init -f init.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=alpine:3

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/ /usr/local/
# A number, because runAsNonRoot cannot check a name.
USER 65532:65532

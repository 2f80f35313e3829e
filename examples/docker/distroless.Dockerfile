# The library only, and variables in place of the command, so that the image's own entrypoint stays. This image has no
# shell; the command needs none either.
# The base must have a dynamic loader: distroless/base, cc, python3 or java do, distroless/static does not.
#
#   docker build -t my-service -f distroless.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=gcr.io/distroless/base-debian12

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/lib/libegress_shim.so /usr/local/lib/
# STRICT, as under the command: with a wrong setting the container ends at once, with status 78.
ENV LD_PRELOAD=/usr/local/lib/libegress_shim.so \
    EGRESS_SHIM_IPV4_ONLY=api.openai.com \
    EGRESS_SHIM_STRICT=1

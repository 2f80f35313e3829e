# An image without a shell. It gets the library and variables, but not the command, so that its own entrypoint stays. (The
# command needs no shell either.)
# The base must have a dynamic loader: distroless/base, cc, python3 and java have one, distroless/static has none.
#
#   docker build -t my-service -f distroless.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=gcr.io/distroless/base-debian12

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/lib/libegress_shim.so /usr/local/lib/
# STRICT makes an invalid setting end the container at once, with status 78, as the command would.
ENV LD_PRELOAD=/usr/local/lib/libegress_shim.so \
    EGRESS_SHIM_IPV4_ONLY=api.openai.com \
    EGRESS_SHIM_STRICT=1

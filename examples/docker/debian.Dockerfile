# An image with any libc, here Debian slim. The command is the entrypoint: it checks the settings, then becomes your
# program, which is process 1 and gets the signals. Build the image egress-shim first, from the Dockerfile beside this one.
# With an init: ENTRYPOINT ["tini", "--", "egress-shim", ...]. `docker run --init` needs no change.
#
#   docker build -t my-service -f debian.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=debian:12-slim

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/ /usr/local/
ENTRYPOINT ["egress-shim", "--ipv4-only", "api.openai.com", "--"]
# Your program. Programs that `docker exec` starts in the container do not get the library.
CMD ["your-program", "--its-option"]

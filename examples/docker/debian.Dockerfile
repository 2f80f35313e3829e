# An image of any libc, here Debian slim: the command is the entrypoint. It checks the settings, then becomes your
# program, which is process 1 and gets the signals. Build the image egress-shim first (Dockerfile, beside this).
#
#   docker build -t my-service -f debian.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=debian:12-slim

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/ /usr/local/
ENTRYPOINT ["egress-shim", "--ipv4-only", "api.openai.com", "--"]
# Your program. What `docker exec` starts beside it does not get the library.
CMD ["your-program", "--its-option"]

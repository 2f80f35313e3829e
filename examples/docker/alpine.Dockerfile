# Alpine (busybox and musl), with the same two files as any other image. Here the settings are variables, so that they can be
# changed when the image is run: docker run -e EGRESS_SHIM_IPV4_ONLY=.openai.com,api.example.com my-service
#
#   docker build -t my-service -f alpine.Dockerfile .
ARG EGRESS_SHIM=egress-shim
ARG BASE=alpine:3

FROM ${EGRESS_SHIM} AS egress-shim

FROM ${BASE}
COPY --from=egress-shim /usr/local/ /usr/local/
ENV EGRESS_SHIM_IPV4_ONLY=api.openai.com \
    EGRESS_SHIM_KEEPALIVE=idle=60,interval=60,count=5
ENTRYPOINT ["egress-shim", "--"]
CMD ["your-program", "--its-option"]

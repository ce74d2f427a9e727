ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY requirements/base.lock /build/
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r /build/base.lock
COPY app /srv/app
COPY model /srv/model
RUN python -m compileall -q /srv

FROM ${BASE}
LABEL org.opencontainers.image.title="mobilenet-serve" \
      org.opencontainers.image.description="Image labels and embeddings from MobileNet V1 over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /srv /srv
WORKDIR /srv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MOBILENET_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-m", "app.probe"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]

# ENGINE=torch brings PyTorch beside ONNX Runtime, and with DEVICE=cuda its CUDA libraries too.
# BASE may name a digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
WORKDIR /build
COPY requirements/base.txt deploy/image/prune.sh ./
# Pruned of what nobody runs or reads here: tests, headers, type stubs, tools.
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r base.txt \
    && sh prune.sh /venv
COPY requirements/dev.txt ./
ARG ENGINE=onnx
ARG DEVICE=cpu
# PyPI's wheel of torch brings CUDA on amd64; this index has one without.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN if [ "${ENGINE}" = torch ]; then \
        if [ "${DEVICE}" = cpu ]; then export PIP_EXTRA_INDEX_URL="${TORCH_INDEX}"; fi; \
        python -m pip --python /venv/bin/python install --no-cache-dir --only-binary :all: \
            --constraint dev.txt "$(grep '^torch==' dev.txt)" \
        && sh prune.sh /venv; \
    fi

# The bill of materials, in CycloneDX's form.
FROM ${BASE} AS sbom
WORKDIR /build
COPY requirements/release.txt ./
RUN python -m venv --without-pip /tools \
    && python -m pip --python /tools/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r release.txt
COPY pyproject.toml ./
COPY --from=dependencies /venv /venv
RUN /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
        --output-reproducible --output-file /sbom.cdx.json /venv

# Compiled, because the root is read-only when it runs.
FROM ${BASE} AS code
COPY app /srv/app
COPY model /srv/model
RUN python -m compileall -q /srv

FROM ${BASE} AS runtime
WORKDIR /srv
COPY --from=dependencies /venv /venv
COPY --from=sbom /sbom.cdx.json /srv/
COPY --from=code /srv /srv
ARG ENGINE=onnx
ARG DEVICE=cpu
# The capabilities are for NVIDIA's container runtime, which no other looks at.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MOBILENET_HOST=0.0.0.0 \
    MOBILENET_ENGINE=${ENGINE} \
    MOBILENET_DEVICE=${DEVICE}
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-m", "app.server.probe"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
ARG BASE
# `make image` adds the version and the revision.
LABEL org.opencontainers.image.title="mobilenet-serve" \
      org.opencontainers.image.description="Image labels and embeddings from MobileNet V1 over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"

# Targets: `cpu` (the default: ONNX Runtime), `torch` (PyTorch on a CPU) and `gpu` (PyTorch with CUDA).
# BASE may name a digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY requirements/base.lock ./
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r base.lock
# What nobody runs or reads here: tests and their data, headers and sources, type stubs, tools, a
# picture format that is not read.
COPY deploy/image/prune.sh ./
RUN sh prune.sh /venv
COPY app /srv/app
COPY model /srv/model
# Compiled, because the root is read-only when it runs.
RUN python -m compileall -q /srv

FROM build AS build-torch
# PyPI's wheel of torch brings CUDA on amd64; this index has one without.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements/dev.lock ./
RUN python -m pip --python /venv/bin/python install --no-cache-dir --only-binary :all: \
        --extra-index-url "${TORCH_INDEX}" --constraint dev.lock "$(grep '^torch==' dev.lock)" \
    && sh prune.sh /venv

FROM build AS build-gpu
COPY requirements/dev.lock ./
RUN python -m pip --python /venv/bin/python install --no-cache-dir --only-binary :all: \
        --constraint dev.lock "$(grep '^torch==' dev.lock)" \
    && sh prune.sh /venv

# The list of what is inside, in CycloneDX's form, of each target.
FROM ${BASE} AS sbom-tools
WORKDIR /build
COPY requirements/release.lock ./
RUN python -m venv --without-pip /tools \
    && python -m pip --python /tools/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r release.lock
COPY pyproject.toml ./

FROM sbom-tools AS sbom-cpu
COPY --from=build /venv /venv
RUN /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
        --output-reproducible --output-file /sbom.cdx.json /venv

FROM sbom-tools AS sbom-torch
COPY --from=build-torch /venv /venv
RUN /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
        --output-reproducible --output-file /sbom.cdx.json /venv

FROM sbom-tools AS sbom-gpu
COPY --from=build-gpu /venv /venv
RUN /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
        --output-reproducible --output-file /sbom.cdx.json /venv

FROM ${BASE} AS runtime
COPY --from=build /srv /srv
WORKDIR /srv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MOBILENET_HOST=0.0.0.0
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

FROM runtime AS torch
COPY --from=sbom-torch /sbom.cdx.json /srv/
COPY --from=build-torch /venv /venv
ENV MOBILENET_ENGINE=torch \
    MOBILENET_DEVICE=cpu

FROM runtime AS gpu
COPY --from=sbom-gpu /sbom.cdx.json /srv/
COPY --from=build-gpu /venv /venv
# What NVIDIA's container runtime reads.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MOBILENET_ENGINE=torch \
    MOBILENET_DEVICE=cuda

FROM runtime AS cpu
COPY --from=sbom-cpu /sbom.cdx.json /srv/
COPY --from=build /venv /venv

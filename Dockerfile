# syntax=docker/dockerfile:1
# Slipform in a container, with the versions of requirements.lock. One file, two targets:
#
#   docker build --target cpu -t slipform .
#   docker run --rm -u "$(id -u)" -v "$PWD:/work" -v slipform:/cache slipform prep shapes --out data/shapes
#
#   docker build --target cuda -t slipform:cuda .
#   docker run --rm --gpus all --shm-size 1g -u "$(id -u)" -v "$PWD:/work" -v slipform:/cache slipform:cuda doctor
#
# The volume `slipform` keeps compiled kernels: each container compiles them for a minute without it.
# The target cuda needs the NVIDIA container toolkit on the host.
FROM python:3.12.11-slim-bookworm AS base
# torch.compile and Triton compile with g++ while a program runs; openssl makes checksums of headers.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++ openssl \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.9
# Whoever `docker run -u` names may write here.
RUN mkdir -p /cache /home/slipform \
    && chmod 1777 /cache /home/slipform
# A user of `docker run -u` has no name, from which torch.compile would make the folder of its cache.
ENV HOME=/home/slipform XDG_CACHE_HOME=/cache TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["slipform"]
CMD ["--help"]

# torch without CUDA libraries, which take about 3 GB.
FROM base AS cpu
RUN --mount=type=bind,target=/source,rw \
    uv pip install --system --no-cache --torch-backend cpu \
        --constraints /source/requirements.lock /source
USER 1000

# torch from PyPI brings its CUDA libraries; the driver is the host's.
FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
RUN --mount=type=bind,target=/source,rw \
    uv pip install --system --no-cache --constraints /source/requirements.lock /source
USER 1000

# One image for runs, for the scoring service, and for every node of a Ray cluster; docs/deploy.md says how it is used.
#   docker build --tag onlinevpo:0.1.0-gpu .
#   docker build --tag onlinevpo:0.1.0-cpu --build-arg DEVICE=cpu .
# By digest, which no one can move: --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# gpu: torch with CUDA, from the package index; cpu: from PyTorch's own index of CPU builds.
ARG DEVICE=gpu
# Another index for torch, such as PyTorch's one for another version of CUDA.
ARG TORCH_INDEX_URL=""
# Further packages, with versions: boto3==1.44.5 for `ray up` on AWS, s3fs==2026.9.0 for videos in S3.
ARG EXTRA_PACKAGES=""
ENV VIRTUAL_ENV=/opt/onlinevpo \
    PATH=/opt/onlinevpo/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# Dependencies first: they are the large layers, and the source changes more often.
COPY pyproject.toml constraints.txt ./
RUN python -m venv "$VIRTUAL_ENV" \
    && pip install pip==26.3 setuptools==84.2.1
RUN case "$DEVICE" in \
        gpu) index="$TORCH_INDEX_URL" ;; \
        cpu) index="${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}" ;; \
        *) echo "DEVICE is '$DEVICE'; it may be gpu or cpu" >&2; exit 2 ;; \
    esac \
    && grep '^torch==' constraints.txt > torch.txt \
    && pip install --no-deps ${index:+--index-url "$index"} --requirement torch.txt
RUN python -c 'import os, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print(*project["dependencies"], *os.environ["EXTRA_PACKAGES"].split(), sep="\n")' > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE NOTICE ./
COPY policies policies
COPY cluster cluster
COPY services services
RUN pip install --no-deps --no-build-isolation . \
    && pip check

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="onlinevpo" \
      org.opencontainers.image.licenses="Apache-2.0"
# No Ray without a token, wherever it is started. A private one makes its own.
ENV VIRTUAL_ENV=/opt/onlinevpo \
    PATH=/opt/onlinevpo/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
# ssh and rsync: with `ray up`, the head starts the other machines. Their versions are those of the base image's Debian
# release, which offers no older ones. A login shell, as Ray uses, sets PATH anew.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client rsync \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 onlinevpo \
    && useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash onlinevpo \
    && install --directory --owner=1000 --group=1000 --mode=0700 /data \
    && echo "export PATH=$PATH" > /etc/profile.d/onlinevpo.sh
COPY --from=build /opt/onlinevpo /opt/onlinevpo
USER 1000:1000
WORKDIR /home/onlinevpo
EXPOSE 8000
# Of the service; switch it off (--no-healthcheck) where the image does something else.
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
# No entry point: Ray and Kubernetes bring their own commands. Run it with --init and --ulimit nofile=65536:65536. The
# service answers for localhost only, as which a port published on 127.0.0.1 is reached; others bring a configuration.
CMD ["onlinevpo", "serve", "--host", "0.0.0.0", "--port", "8000", "--data-dir", "/data", "--set", "allowed_hosts=[localhost]"]

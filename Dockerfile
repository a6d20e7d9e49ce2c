# One image for all services; compose.yaml says which of them a container is.
#
# What changes seldom stands first, and only what a step needs is copied before it: an edit of our source re-runs nothing
# but the last COPY, a changed lock file re-runs the install from a download cache.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    /venv/bin/pip install --require-hashes --requirement requirements.lock
# The commands and the version come from pyproject.toml alone: the project is installed as a pointer to /app, where the
# source arrives in the last step. Its build tools came with the lock file, so nothing is downloaded here.
COPY pyproject.toml ./
RUN mkdir cachescope integrations store workers service dashboards \
    && for folder in */; do touch "${folder}__init__.py"; done \
    && touch README.md LICENSE \
    && /venv/bin/pip install --no-deps --no-build-isolation --editable .

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="Cachescope" \
      org.opencontainers.image.description="Self-hosted build-cache analytics for container images" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 CACHESCOPE_DATA=/data
# The data folder belongs to the user before it becomes a volume, or a new volume would belong to root.
RUN useradd --system --uid 10001 --no-create-home --home-dir /app cachescope \
    && install --directory --owner cachescope --mode 0700 /data
WORKDIR /app
COPY --from=build /venv /venv
COPY pyproject.toml LICENSE asgi.py ./
COPY cachescope cachescope
COPY integrations integrations
COPY store store
COPY workers workers
COPY service service
COPY dashboards dashboards
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["python", "-m", "service.server", "--host", "0.0.0.0", "--port", "8000"]

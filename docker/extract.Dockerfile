# From videos to shards, and scoring of videos: with the face detector, on CPUs.
#   docker build -f docker/extract.Dockerfile -t mytalk-extract .
FROM python:3.11.14-slim-bookworm AS environment
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE /mytalk/
COPY mytalk /mytalk/mytalk
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -c /mytalk/constraints.txt '/mytalk[train,landmarks,judges,remote]' \
    && /venv/bin/pip uninstall --yes mytalk

FROM python:3.11.14-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home mytalk
COPY --from=environment /venv /venv
COPY . /mytalk
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /mytalk
USER 1000
CMD ["python", "-m", "data_pipeline", "--help"]

# Training and scoring of landmarks, on GPUs: no detector, whose numpy and protobuf do not fit newer GPU images.
#   docker build -f docker/train.Dockerfile -t mytalk-train .
FROM python:3.12.12-slim-bookworm AS environment
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE /mytalk/
COPY mytalk /mytalk/mytalk
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -c /mytalk/constraints.txt '/mytalk[train,remote]' \
    && /venv/bin/pip uninstall --yes mytalk

FROM python:3.12.12-slim-bookworm
RUN useradd --uid 1000 --create-home mytalk
COPY --from=environment /venv /venv
COPY . /mytalk
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /mytalk
USER 1000
CMD ["python", "-m", "launch", "--help"]

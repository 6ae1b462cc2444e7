# Asof with what a server and a worker need. Put your feature repository into an image of your own:
#   FROM asof:0.1.0
#   COPY --chown=root:root . /repo
# The Python is that of the tests; the packages are those of constraints.txt.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/asof
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# Compiled here, as the user of the image may write nowhere.
RUN /opt/asof/bin/pip install --no-cache-dir --compile -c constraints.txt '.[server,client,postgres,kafka,redis,s3,otel]' \
    && /opt/asof/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON} AS run
RUN useradd --uid 10001 --no-create-home --home-dir /repo --shell /usr/sbin/nologin asof
COPY --from=build /opt/asof /opt/asof
ENV PATH=/opt/asof/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /repo
USER 10001:10001
EXPOSE 6566
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:6566/health', timeout=2)"]
ENTRYPOINT ["asof"]
# Without auth: in feature_store.yaml this refuses to start; see docs/how-to/secure.md.
CMD ["serve", "--host", "0.0.0.0"]

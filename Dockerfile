# One image for every service; by default it serves orders:
#   docker build -t my-microservice . && docker run -p 8000:8000 my-microservice
# Another one: docker run my-microservice clearspan serve inventory
FROM python:3.14.8-slim-trixie AS base

FROM base AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --all-extras --no-install-project
COPY README.md LICENSE ./
COPY observability observability
COPY service service
RUN uv sync --locked --no-dev --all-extras --no-editable

FROM base
# The base image has no bytecode, and this user could write none: a start and each health check would compile the library.
RUN python -m compileall -q /usr/local/lib/python3* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin app && mkdir /data && chown app:app /data
WORKDIR /app
COPY --from=build /app/.venv .venv
# The table of services that `clearspan serve NAME` reads.
COPY pyproject.toml ./
# Each service has a container and so an address of its own: all listen on the same port.
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    CLEARSPAN_DATA_DIR=/data CLEARSPAN_HOST=0.0.0.0 CLEARSPAN_CLOSE_TIMEOUT=3 PORT=8000
LABEL org.opencontainers.image.title="Clearspan" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.description="The services of a shop in which every request is one linked trace"
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Not urllib.request, which would go through an http_proxy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s CMD ["python", "-c", "import os; from http.client import HTTPConnection; \
    c = HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=2); c.request('GET', '/readyz'); \
    raise SystemExit(c.getresponse().status != 200)"]
CMD ["clearspan", "serve", "orders"]

# One image for every service; by default it serves orders:
#   docker build -t my-microservice . && docker run -p 8000:8000 my-microservice
FROM python:3.14-slim AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /app
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY observability observability
COPY service service
RUN uv sync --locked --no-dev --no-editable

FROM python:3.14-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin app && mkdir /data && chown app /data
WORKDIR /app
COPY --from=build /app/.venv .venv
# The table of services that `clearspan serve NAME` reads.
COPY pyproject.toml ./
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CLEARSPAN_DATA_DIR=/data
USER 10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["clearspan", "serve", "orders", "--host", "0.0.0.0", "--port", "8000"]

# The cloud half. From the top of the repository:
#
#   docker build -f deploy/cloud.Dockerfile -t splitbus-cloud --build-arg TORCH_INDEX=URL .
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Without a compiler the codecs still work, slowly: it is for schemas/codecs/*.c and stays out of the final image.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/splitbus
ENV PATH=/opt/splitbus/bin:$PATH
WORKDIR /src

# URL of an extra package index with CPU builds of torch; no secret may be in it. When it is empty the default index
# decides, and its torch for x86-64 Linux brings gigabytes of CUDA, which a CPU worker never uses.
ARG TORCH_INDEX=
# Dependencies first, for a project without code: this layer is built again only when they change.
COPY LICENSE pyproject.toml constraints.txt ./
RUN touch README.md && pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[cloud]'
COPY schemas schemas
COPY broker broker
COPY cloud_worker cloud_worker
RUN pip install --no-deps --force-reinstall .
# The codecs are compiled, checked while it is built. -I: those that were installed, not /src.
RUN python -I -c 'import schemas.codecs._rans, schemas.codecs._transform'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/splitbus /opt/splitbus
# Another model: mount its bundle over /bundle, or build with --build-arg BUNDLE=models/NAME/bundle.
ARG BUNDLE=models/fashion_mnist/bundle
COPY ${BUNDLE} /bundle
ENV PATH=/opt/splitbus/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SPLITBUS_BUNDLE=/bundle
# A number, so that orchestrators which refuse root can see that this is not.
USER 10001:10001
STOPSIGNAL SIGTERM
# Asks the broker whether it takes this worker for alive, subscribed and not stuck. The name is the command's default,
# host name and process id, and the worker is process 1 here: without --init, and set SPLITBUS_ID, not --id.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=2 \
    CMD python -m broker.health worker "${SPLITBUS_ID:-$(hostname)-1}"
# Exec form: the worker is process 1 and gets SIGTERM itself. It then drains for up to 20 s: docker stop -t 25.
ENTRYPOINT ["cloud-worker"]
CMD ["run"]

# The edge half for x86-64 and 64-bit ARM, never with torch. From the top of the repository:
#
#   docker build -f deploy/edge.Dockerfile -t splitbus-edge .
#
# 32-bit ARM has no wheels for some of this: docs/deploy.md installs it there without an image.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Without a compiler the codecs still work, slowly: it is for schemas/codecs/*.c and stays out of the final image.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/splitbus
ENV PATH=/opt/splitbus/bin:$PATH
WORKDIR /src

# Dependencies first, for a project without code: this layer is built again only when they change.
COPY LICENSE pyproject.toml constraints.txt ./
RUN touch README.md && pip install -c constraints.txt '.[edge]'
COPY schemas schemas
COPY broker broker
COPY edge_node edge_node
RUN pip install --no-deps --force-reinstall .
# The image's promises, checked while it is built: no torch, compiled codecs. -I: those that were installed, not /src.
RUN python -c "import importlib.util as u; assert not u.find_spec('torch'), 'torch is in the edge image'"
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
# Asks the broker whether it takes this node for alive. The name is the command's default; set SPLITBUS_ID, not --id.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=2 \
    CMD python -m broker.health edge "${SPLITBUS_ID:-$(hostname)}"
# Exec form: the node is process 1 and gets SIGTERM itself.
ENTRYPOINT ["edge-node"]
CMD ["run"]

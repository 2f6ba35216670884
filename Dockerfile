# Linnaea in a container, for processors or for NVIDIA GPUs:
#   docker build -t linnaea --build-arg WHEELS=ADDRESS_OF_AN_INDEX_WITH_CPU_WHEELS_OF_TORCH .
#   docker build -t linnaea:cuda --target cuda .
#   docker run --rm -v "$PWD:/work" linnaea predict photos/ --output taxa.csv
#   docker run --rm --gpus all -v "$PWD:/work" linnaea:cuda train tiny --data data --output runs/mine
# Without WHEELS pip takes torch from its own index, which on Linux brings the CUDA libraries (several GB).

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
RUN pip install --no-cache-dir "hatchling==1.27.0"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS installed
ARG WHEELS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt /constraints.txt
COPY --from=wheel /wheels /wheels
RUN if [ -n "$WHEELS" ]; then pip install --index-url "$WHEELS" -c /constraints.txt torch torchvision; fi \
    && wheel="$(ls /wheels/linnaea-*.whl)" \
    && pip install -c /constraints.txt "${wheel}[serve,onnx,search]"
RUN useradd --create-home --uid 1000 linnaea
USER 1000
WORKDIR /work
ENV XDG_CACHE_HOME=/home/linnaea/.cache
ENTRYPOINT ["linnaea"]
CMD ["--help"]

# The default pip index has torch with CUDA on Linux; the host needs the NVIDIA container toolkit.
FROM installed AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM installed AS cpu

# A machine for training with CUDA: python 3.12, torch with CUDA, git, DVC with SSH and S3.
#
#   docker build -t dentalign .
#   docker run --rm dentalign                                  # imports everything, says what torch sees
#   docker run --rm --gpus all -it -v "$PWD:/work" dentalign bash
#
# The CUDA libraries come with torch; the host needs NVIDIA's driver and container toolkit only. The image holds
# no data and no keys: the project is mounted, or cloned inside (docs/machines.md).
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make openssh-client \
    && rm -rf /var/lib/apt/lists/*

# Another CUDA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG TORCH_VERSION=2.11.0
RUN pip install --no-cache-dir "torch==${TORCH_VERSION}" --index-url "${TORCH_INDEX}"

WORKDIR /opt/dentalign
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dentalign ./dentalign
# torch stays the one of above: constraints.txt names the version that `make` installs.
RUN grep -v '^torch==' constraints.txt > /tmp/constraints.txt \
    && echo "torch==${TORCH_VERSION}" >> /tmp/constraints.txt \
    && pip install --no-cache-dir -c /tmp/constraints.txt '.[remote]'

RUN useradd --create-home trainer
USER trainer
WORKDIR /work
CMD ["python", "-c", "import dentalign.cli, dentalign.alignment.training, dvc_s3, dvc_ssh, torch; print('torch', torch.__version__, 'CUDA', torch.version.cuda, 'GPUs', torch.cuda.device_count())"]

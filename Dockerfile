# Two images: a machine for training with CUDA, and a server of predictions on the CPU.
#
#   docker build -t dentalign .                                # python 3.12, torch with CUDA, git, DVC, SSH and S3
#   docker run --rm dentalign                                  # imports everything, says what torch sees
#   docker run --rm --gpus all -it -v "$PWD:/project" dentalign bash
#
#   docker build --target serve -t dentalign-serve .           # docs/serving.md
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/models:/project/models:ro" dentalign-serve
#
# Both have the versions of constraints.txt, torch too. The CUDA libraries come with torch; the host needs NVIDIA's
# driver and container toolkit only. The images hold no data and no keys: the project is mounted, or cloned inside
# (docs/machines.md).
FROM python:3.12-slim-bookworm AS base

WORKDIR /opt/dentalign
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dentalign ./dentalign
RUN useradd --create-home trainer

FROM base AS serve
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir -c constraints.txt '.[serve]'
USER trainer
WORKDIR /project
EXPOSE 8000
CMD ["dentalign", "serve", "--host", "0.0.0.0"]

FROM base AS train
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make openssh-client \
    && rm -rf /var/lib/apt/lists/*
# PyPI's torch has CUDA. Another CUDA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG TORCH_INDEX=
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX}
RUN pip install --no-cache-dir -c constraints.txt '.[remote]'
USER trainer
WORKDIR /project
CMD ["python", "-c", "import dentalign.cli, dentalign.alignment.training, dvc_s3, dvc_ssh, torch; print('torch', torch.__version__, 'CUDA', torch.version.cuda, 'GPUs', torch.cuda.device_count())"]

# docker build -t pythia-profile . && docker run --rm -v "$PWD:/work" pythia-profile demo
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY data_order data_order
COPY pythia_profile pythia_profile
RUN pip install --no-cache-dir -c constraints.txt .
ENV XDG_CACHE_HOME=/work/.cache
WORKDIR /work
ENTRYPOINT ["pythia-profile"]
CMD ["--help"]

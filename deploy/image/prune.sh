#!/bin/sh
# Take out of an environment what the service neither runs nor reads: 60 MB of them.
#   prune.sh ENVIRONMENT
set -eu

cd "$1"/lib/python*/site-packages

# Whatever is inside is found by its name: a package that ships none of it loses nothing.
find . -type d \( -name tests -o -path ./onnx/backend/test \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.proto' -o -name '*.c' \
    -o -name '*.cc' -o -name '*.h' -o -name '*.hpp' -o -name '*.a' \) -delete

# Tools that make other models, and compilers.
for package in transformers quantization tools datasets backend; do
    rm -rf "onnxruntime/$package"
done
rm -rf numpy/f2py numpy/distutils torch/include torch/share torch/test

# AVIF is not among the formats that are read, so that its decoder is never loaded.
rm -f PIL/_avif*.so pillow.libs/libavif*

# Commands of the packages. The interpreter stays.
find "$1"/bin -mindepth 1 ! -name 'python*' -delete

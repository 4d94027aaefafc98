#!/bin/sh
# Makes the virtual environment of the server for CPUs: install-cpu.sh DIRECTORY [PYTHON]
# Dockerfile.cpu runs this, and so does its test.
set -eu
requirements="$(dirname "$0")/requirements/cpu.txt"
directory="$1"
"${2:-python3}" -m venv "$directory"
"$directory/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --no-deps --only-binary :all: \
    --requirement "$requirements"

#!/bin/sh
# Makes the virtual environment of an image: install.sh NAME DIRECTORY [PYTHON], with requirements/NAME.txt
# The Dockerfiles run this, and so do their tests.
set -eu
requirements="$(dirname "$0")/requirements/$1.txt"
directory="$2"
"${3:-python3}" -m venv "$directory"
"$directory/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --no-deps --only-binary :all: \
    --requirement "$requirements"

# Makes /opt/vpoc see the torch of the base image's Python; fails if that Python has none.
set -eu
rm /opt/vpoc/bin/python*
if python3.11 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; then
    python3.11 -m venv --without-pip --system-site-packages /opt/vpoc
else
    python3.11 -m venv --without-pip /opt/vpoc
    exit 1
fi

# install_torch.sh FOLDER INDEX: installs the locked torch into /opt/vpoc from a folder of wheels, or from an index.
set -eu
folder=$1 index=$2
pip install --quiet --no-deps --no-compile --no-cache-dir --find-links "$folder" ${index:+--index-url "$index"} \
    "$(grep '^torch==' /opt/vpoc/requirements.txt)"
# a file for Python 3.12 only does not compile here
python -m compileall -q -j 0 -x torch/testing/_internal/py312 /opt/vpoc/lib/python3.11/site-packages/torch

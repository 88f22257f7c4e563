# System libraries, the user that every container runs as, and the folders that volumes are mounted on.
set -eu
apt-get update -qq
# libgomp1: lightgbm, scikit-learn, torch. tzdata: the exchange's zone.
apt-get install -y -qq --no-install-recommends libgomp1 tzdata
rm -rf /var/lib/apt/lists/*
useradd --uid 50000 --gid 0 --create-home --home-dir /home/airflow --shell /usr/sbin/nologin airflow
mkdir -p /opt/airflow/logs /opt/airflow/numba /lake/raw /registry /artifacts /cache
chown -R 50000:0 /opt/airflow /lake /registry /artifacts /cache

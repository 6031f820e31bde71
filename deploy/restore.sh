#!/bin/sh
# Puts back what backup.sh kept, in place of what is there. Everything is stopped meanwhile, and started afterwards.
set -eu
from=${1:?give the directory of a backup}
(cd "$from" && sha256sum --check --quiet SHA256SUMS)
docker compose stop
docker compose up --detach --wait postgres
for database in fraud dagster mlflow; do
    docker compose exec -T postgres pg_restore --username=postgres --dbname="$database" \
        --clean --if-exists --single-transaction --exit-on-error <"$from/$database.dump"
done
docker compose run --rm -T --no-deps mlflow tar --extract --directory=/var/lib/mlflow <"$from/mlflow.tar"
docker compose run --rm -T --no-deps follower tar --extract --directory=/var/lib/fraud <"$from/serving.tar"
docker compose run --rm -T --no-deps metrics-token tar --extract --directory=/var/lib/keys <"$from/keys.tar"
docker compose up --detach

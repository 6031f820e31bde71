#!/bin/sh
# Everything that cannot be made again, into a new directory: the three databases, the models, the keys.
# Topics are not in it: the database knows how far they were read, and the brokers keep a week.
set -eu
umask 077
to=${1:?give a directory that is not there yet}
mkdir "$to"
for database in fraud dagster mlflow; do
    docker compose exec -T postgres pg_dump --username=postgres --format=custom "$database" >"$to/$database.dump"
done
docker compose run --rm -T --no-deps mlflow tar --create --directory=/var/lib/mlflow . >"$to/mlflow.tar"
docker compose run --rm -T --no-deps follower tar --create --directory=/var/lib/fraud --exclude=./bentoml . >"$to/serving.tar"
docker compose run --rm -T --no-deps metrics-token tar --create --directory=/var/lib/keys . >"$to/keys.tar"
cd "$to"
sha256sum -- *.dump *.tar >SHA256SUMS
echo "$to holds $(du -sh . | cut -f1)"

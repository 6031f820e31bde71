#!/bin/sh
# Puts back what backup.sh kept, in place of what is there. Everything is stopped meanwhile, and started afterwards.
set -eu
from=${1:?give the directory of a backup}
(cd "$from" && sha256sum --check --quiet SHA256SUMS)
docker compose stop
docker compose up --detach --wait postgres
# Nothing that came after the backup stays: tables of a later release, partitions of a later month.
empty="SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \\gexec
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;"
for database in fraud dagster mlflow; do
    # A transaction that is committed at the end of the whole dump only: a failure leaves the database as it was.
    docker compose exec -T postgres bash -o pipefail -c '
        { echo "BEGIN; SET LOCAL client_min_messages = warning;"; echo "$1"; pg_restore --file=- && echo "COMMIT;"; } |
            psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --username=postgres --dbname="$0"
        ' "$database" "$empty" <"$from/$database.dump"
done
docker compose run --rm -T --no-deps mlflow tar --extract --directory=/var/lib/mlflow <"$from/mlflow.tar"
docker compose run --rm -T --no-deps follower tar --extract --directory=/var/lib/fraud <"$from/serving.tar"
docker compose run --rm -T --no-deps metrics-token tar --extract --directory=/var/lib/keys <"$from/keys.tar"
docker compose up --detach

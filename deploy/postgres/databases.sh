#!/bin/sh
# Three databases, each with an owner of its own who sees none of the others. Runs once, on an empty volume.
set -eu
for name in fraud dagster mlflow; do
    variable="$(echo "$name" | tr '[:lower:]' '[:upper:]')_DATABASE_PASSWORD"
    # The password reaches psql by its environment: an argument could be read in the list of processes.
    OWNER_PASSWORD="$(printenv "$variable")" psql --set=ON_ERROR_STOP=1 --quiet --username=postgres --dbname=postgres <<SQL
\getenv password OWNER_PASSWORD
CREATE ROLE $name LOGIN PASSWORD :'password';
CREATE DATABASE $name OWNER $name;
REVOKE ALL ON DATABASE $name FROM PUBLIC;
SQL
done

#!/usr/bin/env bash
# Runs targets of the Makefile in a fresh Debian 13 (Python 3.13) as an ordinary user, and prints how long each took:
#     sudo deploy/debian13.sh [TARGET...]        # without a target: run test-fast
# Root is needed for debootstrap and chroot only. Packages come from debootstrap's own default mirror.
# The system is kept in $DEBIAN_ROOT for the next call; the checkout in it is new each time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${DEBIAN_ROOT:-/var/tmp/fraud-detect-debian13}
user=newcomer
checkout=/home/$user/fraud_pipeline
[ $# -gt 0 ] || set -- run test-fast

if [ "$(id -u)" != 0 ]; then
    echo "$0: debootstrap and chroot need root: repeat it with sudo" >&2
    exit 1
fi
if ! command -v debootstrap >/dev/null; then
    echo "$0: debootstrap is not installed: apt-get install debootstrap" >&2
    exit 1
fi
if [ ! -d "$root/home/$user" ]; then # the last step below, so what was interrupted begins again
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates,make,python3,python3-venv trixie "$root"
    chroot "$root" useradd --create-home --shell /bin/bash $user
fi
# The network as this machine has it: names, and the certificate of a proxy that it trusts.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
network=()
while IFS= read -r variable; do network+=("$variable"); done < <(env | grep -E '^(PIP_(CERT|INDEX_URL|DEFAULT_TIMEOUT)|https?_proxy|no_proxy)=' || true)

rm -rf "${root:?}$checkout"
mkdir "$root$checkout"
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory="$root$checkout" --no-same-owner
chroot "$root" chown --recursive $user: "$checkout"

inside() { # in a mount namespace of its own, so that nothing stays mounted
    # shellcheck disable=SC2016 # expanded by the shell inside
    unshare --mount bash -c '
        set -e
        mount --bind /dev "$0/dev"
        mount -t tmpfs tmpfs "$0/dev/shm"
        mount -t proc proc "$0/proc"
        exec chroot --userspec="$1" "$0" "${@:2}"
    ' "$root" $user env --ignore-environment "${network[@]}" HOME=/home/$user USER=$user LANG=C.UTF-8 \
        PATH=/usr/local/bin:/usr/bin:/bin "$@"
}

for target in "$@"; do
    began=$SECONDS
    inside make --directory="$checkout" "$target"
    passed+=("make $target passed in $((SECONDS - began)) s")
done
# shellcheck disable=SC2016 # expanded by the shell inside
inside sh -c '. /etc/os-release; echo "$PRETTY_NAME, $(python3 --version), user $(whoami):"'
printf '  %s\n' "${passed[@]}"

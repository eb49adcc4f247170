#!/usr/bin/env bash
# Build both images and run the whole DAG in them, with podman in place of Docker. As root, on Debian:
#   apt-get install -y --no-install-recommends podman buildah runc conmon debootstrap
#   tests/containers/containers.sh all        what is missing of the base, and both images; or one of: base build
#   tests/containers/containers.sh run OUTPUT [NAME=VALUE ...]     the DAG in them
# Nothing is pulled: the base image is made here, from Debian and the Python that runs this.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}   # one with ragtune[pipeline,registry] and docker
work=${WORK:-$PWD/build/containers}
mkdir -p "$work"/{storage,run,tmp}

cat > "$work/containers.conf" <<C
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]
C
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$work" "$work" > "$work/storage.conf"
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf TMPDIR=$work/tmp

base() {
    local suite root="$work/rootfs" libraries mirror prefix
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $suite" | head -1)
    libraries=ca-certificates,netbase,tzdata,libssl3,libffi8,libsqlite3-0,zlib1g,libbz2-1.0,liblzma5,libreadline8,libuuid1,libncursesw6,libexpat1,libgomp1
    rm -rf "$root"
    nice -n 19 debootstrap --variant=minbase --include="$libraries" "$suite" "$root" "$mirror" > "$work/debootstrap.log"
    prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
    mkdir -p "$root/usr/local/lib/python3.11/site-packages"
    cp -a "$prefix/bin/python3.11" "$root/usr/local/bin/"
    ln -s python3.11 "$root/usr/local/bin/python3" && ln -s python3 "$root/usr/local/bin/python"
    cp -a "$prefix"/lib/libpython3.11.so* "$root/usr/local/lib/" 2>/dev/null || true
    tar -C "$prefix/lib/python3.11" --exclude=site-packages --exclude=test --exclude=__pycache__ -c . | tar -C "$root/usr/local/lib/python3.11" -x
    chroot "$root" ldconfig
    chroot "$root" python3 -m ensurepip > "$work/ensurepip.log" 2>&1
    ln -sf pip3.11 "$root/usr/local/bin/pip"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | podman import -q --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV LANG=C.UTF-8' --change 'CMD python3' - localhost/ragtune-base
}

images() {
    local name volumes
    # pip inside a build is configured as pip outside, and sees the folders that it names
    mapfile -t volumes < <("$python" tests/containers/pip_config.py "$work/pip.conf")
    for name in data train; do
        nice -n 19 buildah build --layers --pull=never --isolation=chroot --network=host "${volumes[@]}" \
            --build-arg BASE=localhost/ragtune-base --build-arg GIT_REVISION="$(git rev-parse HEAD)" \
            --build-arg IMAGE="localhost/ragtune-$name:test" \
            --file "images/$name/Dockerfile" --tag "localhost/ragtune-$name:test" .
        podman run --rm --network=host "localhost/ragtune-$name:test" python3 -m kfp.dsl.executor_main --help > /dev/null
        [ "$(podman run --rm --network=host "localhost/ragtune-$name:test" id -u)" = 1000 ]
    done
    podman images
}

run() {
    local service
    podman system service --time=0 "unix://$work/podman.sock" & service=$!
    trap "kill $service" EXIT
    until [ -S "$work/podman.sock" ]; do sleep 0.2; done
    RAGTUNE_DATA_IMAGE=localhost/ragtune-data:test RAGTUNE_TRAIN_IMAGE=localhost/ragtune-train:test \
        DOCKER_HOST="unix://$work/podman.sock" PYTHONPATH=. "$python" tests/containers/run_dag.py containers "$@"
}

case "${1:-all}" in
    base) base ;;
    build) images ;;
    run) shift; run "$@" ;;
    all) podman image exists localhost/ragtune-base || base; images ;;
esac

#!/usr/bin/env bash
# A cluster in Docker for a first run: KIND, Kubeflow Pipelines, Kubeflow Trainer, the two images and deploy/kind.
#   deploy/kind.sh [up]           all of it; what is there already stays
#   TAG=… deploy/kind.sh images   the images built and loaded after a change of code, with a tag of their own
#   deploy/kind.sh down           the cluster deleted; the workspace stays in runs/kind
# Needs Docker, kubectl, kind, git and make, 16 GB of memory and 60 GB of disk. WORKSPACE=… keeps the workspace elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CLUSTER=ragtune
CONTEXT=kind-$CLUSTER
NODE_IMAGE=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a
KFP=2.17.0
TRAINER=$(sed -n 's/^TRAINER_RELEASE = "\([^"]*\)".*/\1/p' ragtune/training/launchers/trainjob/preflight.py)
WORKSPACE=${WORKSPACE:-$PWD/runs/kind}
TAG=${TAG:-$(sed -n 's/__version__ = "\(.*\)"/\1/p' ragtune/__init__.py)}
WORKERS=2

kube() { kubectl --context "$CONTEXT" "$@"; }

check_tools() {
    for tool in docker kubectl kind git make; do
        command -v "$tool" >/dev/null || { echo "kind.sh: $tool is missing; install it first" >&2; exit 1; }
    done
    docker info >/dev/null 2>&1 || { echo "kind.sh: Docker does not answer; start it first" >&2; exit 1; }
}

# Every node mounts the workspace's folder, so that it is one volume for pods on all of them.
cluster() {
    if kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; then return; fi
    mkdir -p "$WORKSPACE"
    WORKSPACE=$(cd "$WORKSPACE" && pwd)
    {
        printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n  - role: control-plane\n'
        for ((worker = 0; worker < WORKERS; worker++)); do
            printf '  - role: worker\n    extraMounts:\n      - hostPath: "%s"\n        containerPath: /ragtune-workspace\n' \
                "$WORKSPACE"
        done
    } | kind create cluster --name "$CLUSTER" --image "$NODE_IMAGE" --wait 5m --config -
}

pipelines() {
    local source="https://github.com/kubeflow/pipelines.git/manifests/kustomize"
    kube apply --kustomize "$source/cluster-scoped-resources?ref=$KFP"
    kube wait crd/applications.app.k8s.io --for condition=established --timeout 60s
    kube apply --kustomize "$source/env/platform-agnostic?ref=$KFP"
    kube wait deployments --all --namespace kubeflow --for condition=available --timeout 15m
}

trainer() {
    local source="https://github.com/kubeflow/trainer.git/manifests/overlays"
    kube apply --server-side --kustomize "$source/manager?ref=$TRAINER"
    kube wait deployments --all --namespace kubeflow-system --for condition=available --timeout 5m
    kube apply --server-side --kustomize "$source/runtimes?ref=$TRAINER"  # torch-distributed among them
}

images() {
    make images TAG="$TAG"
    kind load docker-image --name "$CLUSTER" "ragtune-data:$TAG" "ragtune-train:$TAG"
}

ours() {
    kube apply --kustomize deploy/trainer
    kube apply --kustomize deploy/kind
    kube wait job/ragtune-workspace-owner --namespace kubeflow --for condition=complete --timeout 5m
}

case "${1:-up}" in
up)
    check_tools
    cluster
    pipelines
    trainer
    images
    ours
    echo "ready: kubectl --context $CONTEXT port-forward -n kubeflow svc/ml-pipeline 8888; then docs/cluster.md, First run"
    ;;
images)
    check_tools
    images
    ;;
down)
    kind delete cluster --name "$CLUSTER"
    ;;
*)
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
    ;;
esac

#!/usr/bin/env bash
# Renders the chart into plain YAML, or checks that this was done and that all of it is valid.
#
#   scripts/manifests.sh render|check
set -euo pipefail
cd "$(dirname "$0")/.."

tools=${CARGO_TARGET_DIR:-target}/tools
helm_version=v3.22.0
validate_version=$(sed -n 's/^kubernetes-validate==//p' scripts/requirements-manifests.txt)
chart=manifests/chart/weft
helm=${HELM:-$tools/helm}

install_helm() {
    [ -x "$helm" ] && return
    local go
    go=$(scripts/go.sh)
    mkdir -p "$tools"
    GOBIN=$(realpath "$tools") "$go" install "helm.sh/helm/v3/cmd/helm@$helm_version"
}

install_validate() {
    [ -d "$tools/python/kubernetes_validate" ] && return
    rm -rf "$tools/python"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools/python" \
        "kubernetes-validate==$validate_version"
}

template() {
    "$helm" template weft "$chart" --namespace weft-system --kube-version 1.33.0 "$@"
}

# render FOLDER: the files as they should be.
render() {
    mkdir -p "$1/base" "$1/overlays/edge"
    template --include-crds > "$1/base/weft.yaml"
    template --set edge.enabled=true --show-only templates/edge.yaml > "$1/overlays/edge/edge.yaml"
}

check() {
    local made
    made=$(mktemp -d)
    # Expanded now: the variable is gone when the program ends.
    trap "rm -rf '$made'" EXIT
    "$helm" lint --strict "$chart"
    render "$made"
    for file in base/weft.yaml overlays/edge/edge.yaml; do
        diff -u "manifests/$file" "$made/$file" \
            || { echo "manifests/$file is not what the chart makes: scripts/manifests.sh render" >&2; exit 1; }
    done
    template --set edge.enabled=true,serviceMonitor.enabled=true,revision=canary,controlPlane.enabled=false \
        --set 'image.pullSecrets={registry}' --set injector.autoscaling.enabled=false > "$made/canary.yaml"
    template --set controlPlane.replicas=3,controlPlane.authoritySecret=cacerts \
        --set 'controlPlane.config.deployment.etcd.host={http://etcd:2379}' \
        --set 'controlPlane.config.admin.keys[0].key=secret' > "$made/several.yaml"
    PYTHONPATH="$tools/python" python3 scripts/validate-manifests.py \
        manifests/base/namespace.yaml manifests/base/weft.yaml manifests/overlays/*/*.yaml \
        "$made/canary.yaml" "$made/several.yaml" injector/inject/goldens/*.out.yaml
}

install_helm
case "${1:-}" in
    render) render manifests ;;
    check) install_validate; check ;;
    *) echo "usage: scripts/manifests.sh render|check" >&2; exit 2 ;;
esac

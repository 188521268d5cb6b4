#!/bin/sh
# Lints the chart and renders every mode; with what must be refused, refused. HELM names the helm to use, by default
# the cached one.
set -eu
cd "$(dirname "$0")/.."
cache="$(hack/cache-root.sh)"
helm="${HELM:-$(ls "$cache"/bin/helm-*/helm 2>/dev/null | sort -V | tail -1)}"
[ -n "$helm" ] || { echo "check-chart: no helm in $cache/bin; set HELM" >&2; exit 1; }
chart=charts/multiactive
kube=1.34.4 # a helm that was built here does not know a Kubernetes version of its own
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

member="--set cluster=east --set member.namespaces={shop}"
images="--set image.repository=registry.invalid/ma"
unit="--set router.units[0].name=east-1 --set router.units[0].namespace=shop"
render() { "$helm" template multiactive "$chart" --namespace multiactive-system --kube-version "$kube" "$@"; }
refused() {
    text="$1"; shift
    if render "$@" >"$out/refused" 2>&1; then echo "check-chart: accepted: $*" >&2; exit 1; fi
    grep -q -- "$text" "$out/refused" || { echo "check-chart: $* is refused without: $text" >&2; cat "$out/refused" >&2; exit 1; }
}
# kinds FILE KIND NAME: fails where the object is not there.
has() { awk -v k="kind: $2" -v n="  name: $3" 'BEGIN{RS="---\n"} index("\n"$0"\n","\n"k"\n") && index($0"\n","\n"n"\n"){f=1} END{exit !f}' "$1" || { echo "check-chart: $1 has no $2 $3" >&2; exit 1; }; }
lacks() { if (has "$@") 2>/dev/null; then echo "check-chart: $1 has $2 $3" >&2; exit 1; fi; }

"$helm" lint --strict --kube-version "$kube" "$chart" --set mode=hub $images >/dev/null
"$helm" lint --strict --kube-version "$kube" "$chart" $member $unit $images >/dev/null
render --set mode=hub $images >"$out/hub"
render --set mode=member $member $unit $images >"$out/member"
render $member $unit $images --set router.units[0].replicas=1 --set router.units[0].listen=127.0.0.11:18000 \
    --set router.units[0].strategy.type=Recreate --set router.image=process/multiactive-router >"$out/both"

has "$out/hub" Deployment multiactive-operator
lacks "$out/hub" Deployment multiactive-agent
has "$out/member" Deployment multiactive-agent
has "$out/member" Deployment east-1-router
lacks "$out/member" Deployment multiactive-operator
lacks "$out/member" ValidatingAdmissionPolicy multiactive-decisions
has "$out/hub" ValidatingAdmissionPolicy multiactive-fencing-hooks
has "$out/hub" ValidatingAdmissionPolicyBinding multiactive-fencing-hooks
lacks "$out/hub" Role multiactive-fencing-hook-pdu
render --set mode=hub $images --set operator.fencingHookSecrets[0].name=pdu --set operator.fencingHookSecrets[0].namespace=shop >"$out/hooks"
has "$out/hooks" Role multiactive-fencing-hook-pdu
has "$out/hooks" RoleBinding multiactive-fencing-hook-pdu
grep -q 'resourceNames: \["pdu"\]' "$out/hooks"
for mode in hub member both; do
    has "$out/$mode" CustomResourceDefinition promotions.multiactive.io
    for policy in routing-table unit-assignments replication-links protected-namespaces labels-namespaces; do
        has "$out/$mode" ValidatingAdmissionPolicy "multiactive-$policy"
        has "$out/$mode" ValidatingAdmissionPolicyBinding "multiactive-$policy"
    done
    if grep -q "rbac.authorization.k8s.io/aggregate" "$out/$mode"; then
        echo "check-chart: $mode aggregates a role into another" >&2; exit 1
    fi
    if grep -vE "^ *#|description:" "$out/$mode" | grep -E "\"\*\"|'\*'|\[\*\]|- \*|escalate|impersonate|\bbind\b"; then
        echo "check-chart: $mode has a wildcard or a right to more rights" >&2; exit 1
    fi
done
grep -q 'image: "process/multiactive-router"' "$out/both"
grep -q 'host: "127.0.0.11"' "$out/both" && { echo "check-chart: probes ask the admin port" >&2; exit 1; }
grep -q 'image: "registry.invalid/ma/multiactive-operator:' "$out/both"
render $member $unit --set operator.image=a --set agent.image=b --set router.image=c >/dev/null
refused "image.repository: name the registry" --set mode=hub
refused "image.repository: name the registry" $member $unit --set operator.image=a --set agent.image=b
refused "name the MemberCluster" --set mode=member
refused "not among member.namespaces" $images --set cluster=east $unit
refused "two units" $images $member $unit --set router.units[1].name=east-2 --set router.units[1].namespace=shop
refused "routers run in members" $images --set mode=hub $unit
refused "mode" --set mode=everything
refused "listne" --set agent.listne=x
echo "check-chart: ok"

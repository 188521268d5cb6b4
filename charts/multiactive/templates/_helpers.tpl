{{/* Whether this cluster is a hub, a member: "true" or nothing. */}}
{{- define "multiactive.hub" -}}{{- if has .Values.mode (list "hub" "both") }}true{{ end }}{{- end }}
{{- define "multiactive.member" -}}{{- if has .Values.mode (list "member" "both") }}true{{ end }}{{- end }}

{{/* The labels of every object. */}}
{{- define "multiactive.labels" -}}
app.kubernetes.io/name: multiactive
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The image of a part: (dict "root" $ "image" given "part" "operator"). */}}
{{- define "multiactive.image" -}}
{{- if .image }}{{ .image }}
{{- else }}{{ printf "%s/multiactive-%s:%s" (required "image.repository: name the registry and folder to which you pushed the images; none are published yet, the chart's README.md says how to build them" .root.Values.image.repository) .part (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The port of host:port. */}}
{{- define "multiactive.port" -}}{{ splitList ":" . | last }}{{- end }}

{{/* A probe's target: (dict "listen" address "path" path). A part that listens on one address is asked there. */}}
{{- define "multiactive.httpGet" -}}
{{- $host := trimSuffix (printf ":%s" (include "multiactive.port" .listen)) .listen -}}
httpGet:
  path: {{ .path }}
  port: {{ include "multiactive.port" .listen }}
  {{- if not (has $host (list "" "0.0.0.0" "[::]")) }}
  host: {{ $host | quote }}
  {{- end }}
{{- end }}

{{/* Pod Security `restricted`. */}}
{{- define "multiactive.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "multiactive.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* A Deployment's strategy: Recreate leaves out the rollingUpdate that merged defaults left behind. */}}
{{- define "multiactive.strategy" -}}
{{- if eq .type "Recreate" }}type: Recreate{{ else }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Where pods may run, and with what. The context is the values of a part. */}}
{{- define "multiactive.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The accounts that may write the RoutingTable and protect namespaces, as a CEL list. */}}
{{- define "multiactive.writers" -}}
{{- $writers := list (printf "system:serviceaccount:%s:multiactive-operator" .Release.Namespace) (printf "system:serviceaccount:%s:multiactive-hub" .Release.Namespace) -}}
[{{ range $index, $writer := concat $writers .Values.policies.extraWriters }}{{ if $index }}, {{ end }}{{ squote $writer }}{{ end }}]
{{- end }}

{{/* The accounts of this chart that label namespaces, as a CEL list. */}}
{{- define "multiactive.accounts" -}}
[{{ printf "system:serviceaccount:%s:multiactive-operator" .Release.Namespace | squote }}, {{ printf "system:serviceaccount:%s:multiactive-hub" .Release.Namespace | squote }}]
{{- end }}

{{/* The agent's account, as a CEL text. */}}
{{- define "multiactive.agent" -}}
{{ printf "system:serviceaccount:%s:multiactive-agent" .Release.Namespace | squote }}
{{- end }}

{{/* Whether a controller of Kubernetes takes away what belongs to a namespace or an owner that is gone; it may change
     metadata on the way, and nothing else. */}}
{{- define "multiactive.cleaning" -}}
>-
      request.userInfo.username in
      ['system:serviceaccount:kube-system:namespace-controller',
      'system:serviceaccount:kube-system:generic-garbage-collector', 'system:kube-controller-manager'] &&
      (request.operation == 'DELETE' || (request.operation == 'UPDATE' && !has(request.subResource) && object.spec == oldObject.spec))
{{- end }}

{{/* What is wrong with the values, said before anything is installed. */}}
{{- define "multiactive.check" -}}
{{- if and (include "multiactive.member" .) (not .Values.cluster) }}
{{- fail "cluster: name the MemberCluster that this cluster is called in the hub" }}
{{- end }}
{{- $seen := dict }}
{{- range .Values.router.units }}
{{- if not (include "multiactive.member" $) }}
{{- fail "router.units: routers run in members; set mode to member or both" }}
{{- end }}
{{- if not (has .namespace $.Values.member.namespaces) }}
{{- fail (printf "router.units: namespace %s of unit %s is not among member.namespaces" .namespace .name) }}
{{- end }}
{{- if hasKey $seen .namespace }}
{{- fail (printf "router.units: namespace %s has two units, %s and %s; a cluster has at most one unit in a namespace" .namespace (get $seen .namespace) .name) }}
{{- end }}
{{- $_ := set $seen .namespace .name }}
{{- end }}
{{- end }}

{{/* What every role for people may read. */}}
{{- define "multiactive.viewRules" }}
- apiGroups: [multiactive.io]
  resources:
  - regions
  - memberclusters
  - units
  - keyspaces
  - shardranges
  - unitworkloads
  - datastores
  - replicationlinks
  - routingtables
  - unitassignments
  - promotions
  - failovers
  - verifications
  verbs: [get, list, watch]
# What happened.
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [get, list, watch]
{{- end }}

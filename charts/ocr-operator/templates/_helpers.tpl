{{/*
Gives absent keys of the values what they stand for: null takes a key away, and `--reuse-values` brings the values of an older chart,
which had fewer. Each template begins with it, since Helm renders them in any order and they share the values.
*/}}
{{- define "ocr-operator.fill" -}}
{{- include "ocr-operator.fillIn" (list .Values (include "ocr-operator.defaults" . | fromYaml)) }}
{{- end }}
{{- define "ocr-operator.fillIn" -}}
{{- $values := first . }}
{{- range $key, $default := last . }}
{{- $found := index $values $key }}
{{- if kindIs "invalid" $found }}
{{- $_ := set $values $key $default }}
{{- else if and (kindIs "map" $default) (kindIs "map" $found) }}
{{- include "ocr-operator.fillIn" (list $found $default) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's name, or its override. */}}
{{- define "ocr-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The base of every resource's name: release and chart, said once when one contains the other. */}}
{{- define "ocr-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "ocr-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The base of the names of what has no namespace: the same release may be in two namespaces. Neither part has a dot. */}}
{{- define "ocr-operator.clusterName" -}}
{{- printf "%s.%s" (include "ocr-operator.fullname" .) .Release.Namespace }}
{{- end }}

{{/* What selects the operator's pod: never changes between versions. */}}
{{- define "ocr-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ocr-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "ocr-operator.labels" -}}
{{ include "ocr-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ocr-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What selects the pods that call inference pods: the operator's, and that of `helm test`. */}}
{{- define "ocr-operator.callers" -}}
matchLabels:
  app.kubernetes.io/name: {{ include "ocr-operator.name" . }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [operator, selftest]
{{- end }}

{{/* What selects the pods of our own GPU exporter: the operator looks for the name. */}}
{{- define "ocr-operator.exporterSelectorLabels" -}}
app.kubernetes.io/name: ocr-gpu-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ocr-operator.exporterLabels" -}}
{{ include "ocr-operator.exporterSelectorLabels" . }}
app.kubernetes.io/component: gpu-exporter
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ocr-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Where exporter pods are believed; empty is where the operator trusts namespaces by itself. */}}
{{- define "ocr-operator.exporterNamespace" -}}
{{- if .Values.exporterNamespace }}
{{- .Values.exporterNamespace }}
{{- else if .Values.watchNamespaces }}
{{- ternary .Release.Namespace (first .Values.watchNamespaces) .Values.gpuExporter.enabled }}
{{- end }}
{{- end }}

{{- define "ocr-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "ocr-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed with serviceAccount.create=false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image reference of (dict "image" <values> "root" $): the digest wins over the tag. What is before the first slash is a registry where
it has a dot or a port, as everywhere. */}}
{{- define "ocr-operator.image" -}}
{{- $repository := .image.repository }}
{{- with .root.Values.global.imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- if and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) }}
{{- $parts = rest $parts }}
{{- end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* The image of inference pods whose models need PyTorch (cuda) or vLLM (vllm), of (list <which> $): what isn't said is that of the small one,
its tag with -cuda or -vllm. */}}
{{- define "ocr-operator.largerImage" -}}
{{- $which := first . }}
{{- $root := last . }}
{{- $image := $root.Values.inferenceImage }}
{{- $larger := index $image $which }}
{{- $tag := default (printf "%s-%s" (default $root.Chart.AppVersion $image.tag) $which) $larger.tag }}
{{- include "ocr-operator.image" (dict "image" (dict "repository" (default $image.repository $larger.repository) "tag" $tag "digest" $larger.digest) "root" $root) }}
{{- end }}

{{/* The names of all pull secrets, as JSON; a parent chart may give them as names. */}}
{{- define "ocr-operator.pullSecrets" -}}
{{- $names := list }}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
{{- $names = append $names (ternary .  (dig "name" "" (ternary dict . (kindIs "string" .))) (kindIs "string" .)) }}
{{- end }}
{{- $names | uniq | toJson }}
{{- end }}
{{- define "ocr-operator.imagePullSecrets" -}}
{{- with include "ocr-operator.pullSecrets" . | fromJsonArray }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What selects the inference pods of every resource; with watchNamespaces, of those there. */}}
{{- define "ocr-operator.inferencePods" -}}
matchLabels:
  app.kubernetes.io/name: ocr-inference
  app.kubernetes.io/managed-by: ocr-operator
{{- end }}

{{/* Labels of the operator's pods: a person's win over the chart's, but not over those in selectors. */}}
{{- define "ocr-operator.podLabels" -}}
{{- $labels := include "ocr-operator.labels" . | fromYaml }}
{{- $selector := include "ocr-operator.selectorLabels" . | fromYaml }}
{{- mergeOverwrite $labels (deepCopy .Values.podLabels) $selector | toYaml }}
{{- end }}

{{/* The namespaces that this release watches, for other releases: "*" is all of them. */}}
{{- define "ocr-operator.scope" -}}
{{- .Values.watchNamespaces | uniq | sortAlpha | join "," | default "*" }}
{{- end }}

{{/* The ClusterRole of another release, which has namespaces of its own; empty where there is none, or none can be seen. */}}
{{- define "ocr-operator.neighbour" -}}
{{- $name := include "ocr-operator.clusterName" . }}
{{- $found := "" }}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items }}
{{- if and (index (default dict .metadata.annotations) "ocr-operator.io/watch-namespaces") (ne .metadata.name $name) }}
{{- $found = .metadata.name }}
{{- end }}
{{- end }}
{{- $found }}
{{- end }}

{{/*
Fails where another release watches one of this one's namespaces. Its ClusterRole says which: in what `helm template` renders,
and without the permission to read ClusterRoles, there is nothing to compare with.
*/}}
{{- define "ocr-operator.refuseOverlap" -}}
{{- if .Values.refuseOverlap }}
{{- $name := include "ocr-operator.clusterName" . }}
{{- $release := printf "%s/%s" .Release.Namespace .Release.Name }}
{{- $ours := splitList "," (include "ocr-operator.scope" .) }}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items }}
{{- $annotations := default dict .metadata.annotations }}
{{- $theirs := index $annotations "ocr-operator.io/watch-namespaces" }}
{{- $by := printf "%s/%s" (index $annotations "meta.helm.sh/release-namespace") (index $annotations "meta.helm.sh/release-name") }}
{{- if and $theirs (ne .metadata.name $name) (ne $by $release) }}
{{- $other := .metadata.name }}
{{- range splitList "," $theirs }}
{{- if or (eq . "*") (has "*" $ours) (has . $ours) }}
{{- fail (printf "the release of ClusterRole %s watches %s already, and two operators must not share a namespace: give both disjoint watchNamespaces, or uninstall one (refuseOverlap=false installs this one all the same; where another owns a namespace, it writes nothing)" $other (ternary "all namespaces" (printf "namespace %s" .) (eq . "*"))) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

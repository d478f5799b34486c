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

{{/* Where exporter pods are looked for; empty is everywhere. */}}
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

{{/* An image reference of (dict "image" <values> "default" <tag>): the digest wins over the tag. */}}
{{- define "ocr-operator.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .default .image.tag) }}
{{- end }}
{{- end }}

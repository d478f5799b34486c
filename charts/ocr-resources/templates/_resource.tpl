{{- /* One object of (dict "root" $ "kind" … "name" … "value" … "namespace" …). What a person says wins over the chart's labels. */}}
{{- define "ocr-resources.resource" }}
---
apiVersion: ocr-operator.io/v1alpha1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- $labels := dict
      "app.kubernetes.io/name" "ocr-resources"
      "app.kubernetes.io/instance" .root.Release.Name
      "app.kubernetes.io/managed-by" .root.Release.Service
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
    {{- mergeOverwrite $labels (default dict .value.labels) | toYaml | nindent 4 }}
  {{- with .value.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- .value.spec | toYaml | nindent 2 }}
{{- end }}

{{/* The operator's environment: what the values say, without the variables that extraEnv has, and extraEnv. */}}
{{- define "ocr-operator.env" -}}
{{- $own := list }}
{{- range .Values.extraEnv }}
{{- $own = append $own .name }}
{{- end }}
{{- $entries := list }}
{{- range include "ocr-operator.ownEnv" . | fromYamlArray }}
{{- if not (has .name $own) }}
{{- $entries = append $entries . }}
{{- end }}
{{- end }}
{{- concat $entries .Values.extraEnv | toYaml }}
{{- end }}
{{- define "ocr-operator.ownEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: OCR_OPERATOR_IDENTITY
  value: {{ printf "%s/%s" .Release.Namespace (include "ocr-operator.fullname" .) | quote }}
- name: OCR_OPERATOR_LEASE
  value: {{ printf "%s/%s-leader" .Release.Namespace (include "ocr-operator.fullname" .) | quote }}
- name: OCR_OPERATOR_COUNTED_PODS
  value: {{ .Values.countedPods | quote }}
- name: OCR_OPERATOR_INFERENCE_IMAGE
  value: {{ include "ocr-operator.image" (dict "image" .Values.inferenceImage "root" .) | quote }}
- name: OCR_OPERATOR_INFERENCE_IMAGE_CUDA
  value: {{ include "ocr-operator.largerImage" (list "cuda" .) | quote }}
- name: OCR_OPERATOR_INFERENCE_IMAGE_VLLM
  value: {{ include "ocr-operator.largerImage" (list "vllm" .) | quote }}
{{- with .Values.inferenceImage.pullPolicy }}
- name: OCR_OPERATOR_IMAGE_PULL_POLICY
  value: {{ . | quote }}
{{- end }}
- name: OCR_OPERATOR_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: OCR_OPERATOR_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
- name: OCR_OPERATOR_PORT
  value: "8080"
{{- with include "ocr-operator.pullSecrets" . | fromJsonArray }}
- name: OCR_OPERATOR_IMAGE_PULL_SECRETS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.watchNamespaces }}
- name: OCR_OPERATOR_WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- if not .Values.rbac.clusterWide }}
{{- if not .Values.watchNamespaces }}
{{- fail "rbac.clusterWide=false gives the operator Roles in watchNamespaces alone: name them" }}
{{- end }}
- name: OCR_OPERATOR_CLUSTER_ACCESS
  value: none
{{- end }}
{{- with include "ocr-operator.exporterNamespace" . }}
- name: OCR_OPERATOR_EXPORTER_NAMESPACE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.prometheus.url }}
- name: OCR_OPERATOR_PROMETHEUS_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.prometheus.matchers }}
- name: OCR_OPERATOR_PROMETHEUS_MATCHERS
  value: {{ . | quote }}
{{- end }}
{{- if .Values.prometheus.tokenSecretName }}
- name: OCR_OPERATOR_PROMETHEUS_TOKEN_FILE
  value: /etc/ocr-operator/prometheus/token
{{- end }}
{{- if .Values.metrics.tokenSecretName }}
- name: OCR_OPERATOR_METRICS_TOKEN_FILE
  value: /etc/ocr-operator/metrics/token
{{- end }}
- name: OCR_OPERATOR_POD_USER
  value: {{ .Values.podUser | quote }}
- name: OCR_OPERATOR_PLACEMENT_POLICY
  value: {{ .Values.placementPolicy | quote }}
- name: OCR_OPERATOR_UPGRADES_AT_ONCE
  value: {{ .Values.upgradesAtOnce | quote }}
- name: OCR_OPERATOR_LEAVE_TO_SCHEDULER_SECONDS
  value: {{ .Values.leaveToSchedulerSeconds | quote }}
- name: OCR_OPERATOR_RESOURCE_SERIES
  value: {{ .Values.metrics.resourceSeries | quote }}
{{- end }}

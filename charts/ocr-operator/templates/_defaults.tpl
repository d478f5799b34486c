{{/* Made from values.yaml: make chart. What absent keys stand for. */}}
{{- define "ocr-operator.defaults" -}}
global:
  imageRegistry: ''
  imagePullSecrets: []
nameOverride: ''
fullnameOverride: ''
image:
  repository: ghcr.io/ocr-operator/ocr-operator
  tag: ''
  digest: ''
  pullPolicy: IfNotPresent
inferenceImage:
  repository: ghcr.io/ocr-operator/ocr-inference
  tag: ''
  digest: ''
  pullPolicy: ''
  cuda:
    repository: ''
    tag: ''
    digest: ''
  vllm:
    repository: ''
    tag: ''
    digest: ''
imagePullSecrets: []
podUser: fixed
replicas: 2
watchNamespaces: []
countedPods: all
refuseOverlap: true
unknownTemplateFields: Warn
exporterNamespace: ''
prometheus:
  url: ''
  tokenSecretName: ''
  matchers: ''
placementPolicy: leastLoaded
upgradesAtOnce: 2
leaveToSchedulerSeconds: 120
gpuExporter:
  enabled: false
  runtimeClassName: nvidia
  priorityClassName: ''
logLevel: info
logFormat: text
crds:
  enabled: true
  keep: true
serviceAccount:
  create: true
  name: ''
  annotations: {}
rbac:
  create: true
  clusterWide: true
  admissionPolicy: Deny
  aggregateToDefaultRoles: true
extraEnv: []
podAnnotations: {}
podLabels: {}
deploymentAnnotations: {}
priorityClassName: ''
affinity: {}
topologySpreadConstraints: []
podDisruptionBudget:
  enabled: true
terminationGracePeriodSeconds: 15
networkPolicy:
  enabled: false
  scrapers: []
  namespaces: []
  clients: []
metrics:
  tokenSecretName: ''
  resourceSeries: 500
  service:
    enabled: true
    annotations: {}
  serviceMonitor:
    enabled: false
    interval: 30s
    labels: {}
  podMonitor:
    enabled: false
    interval: 30s
    labels: {}
  prometheusRule:
    enabled: false
    labels: {}
    alertLabels: {}
    gpuMemoryPercent: 95
    runbookUrl: ''
  dashboard:
    enabled: false
    annotations: {}
extraObjects: []
{{- end }}

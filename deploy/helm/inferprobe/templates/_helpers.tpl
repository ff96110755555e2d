{{- define "inferprobe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "inferprobe.fullname" -}}
{{- $name := include "inferprobe.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "inferprobe.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "inferprobe.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "inferprobe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "inferprobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "inferprobe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "inferprobe.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/part-of: inferprobe
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "inferprobe.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* Whether several replicas share the endpoints by Leases: a word, or nothing. */}}
{{- define "inferprobe.leases" -}}
{{- if and (eq .Values.mode "deployment") (gt (int .Values.replicas) 1) }}leases{{ end }}
{{- end }}

{{/* The configuration file: the endpoints and the rest. */}}
{{- define "inferprobe.config" -}}
{{- merge (dict "endpoints" .Values.endpoints) .Values.config | toYaml }}
{{- end }}

{{/* The plain values of env_vars that are secrets, as a map. */}}
{{- define "inferprobe.secrets" -}}
{{- $secrets := dict }}
{{- range $name, $value := .Values.env_vars }}
{{- if and (kindIs "string" $value) $value (regexMatch "(TOKEN|KEY)$" $name) }}
{{- $_ := set $secrets $name $value }}
{{- end }}
{{- end }}
{{- if $secrets }}
{{- toYaml $secrets }}
{{- end }}
{{- end }}

{{/* GOMEMLIMIT in bytes: 60 % of the memory limit; nothing without a limit. */}}
{{- define "inferprobe.gomemlimit" -}}
{{- with (dig "limits" "memory" "" .Values.resources) }}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- $number := regexFind "^[0-9.]+" (toString .) }}
{{- $unit := trimPrefix $number (toString .) }}
{{- if not (hasKey $units $unit) }}
{{- fail (printf "resources.limits.memory: %s is not understood; write for example 1Gi" (toString .)) }}
{{- end }}
{{- mulf (float64 $number) (get $units $unit) 0.6 | int64 }}
{{- end }}
{{- end }}

{{/* One element of env for a name and a value of env_vars. */}}
{{- define "inferprobe.variable" -}}
- name: {{ .name }}
{{- if kindIs "map" .value }}
  valueFrom:
    secretKeyRef:
      {{- toYaml (.value.secretKeyRef | default .value) | nindent 6 }}
{{- else if hasKey .secrets .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .fullname }}
      key: {{ .name }}
{{- else }}
  value: {{ .value | quote }}
{{- end }}
{{- end }}

{{/* What ServiceMonitor and PodMonitor have in common: one element of their lists of endpoints. */}}
{{- define "inferprobe.scrape" -}}
port: http
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
relabelings:
  - action: labeldrop
    regex: endpoint
  {{- with .relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

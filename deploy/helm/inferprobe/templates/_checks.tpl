{{/* What the schema cannot say. */}}
{{- define "inferprobe.checks" -}}
{{- $url := .Values.env_vars.OPENAI_API_BASE_URL }}
{{- if and .Values.endpoints $url }}
{{- fail "endpoints and env_vars.OPENAI_API_BASE_URL both say what to measure; keep one of the two" }}
{{- end }}
{{- if not (or .Values.endpoints $url) }}
{{- fail "there is nothing to measure: set env_vars.OPENAI_API_BASE_URL=http://your-api-endpoint.com/v1, or list endpoints" }}
{{- end }}
{{- if and .Values.config (not .Values.endpoints) }}
{{- fail "config needs endpoints: move the endpoint of env_vars.OPENAI_API_BASE_URL there" }}
{{- end }}
{{- $p := .Values.persistence }}
{{- if and (include "inferprobe.leases" .) $p.enabled (not $p.existingClaim) (not (has "ReadWriteMany" $p.accessModes)) }}
{{- fail "replicas share one volume: set persistence.accessModes={ReadWriteMany} and a storageClassName that offers it, or keep to one replica" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor would scrape the pod twice; enable one of the two" }}
{{- end }}
{{- end }}

{{/* The pod template of the Deployment and of the Job. */}}
{{- define "inferprobe.pod" -}}
{{- $job := eq .Values.mode "job" -}}
{{- $leases := include "inferprobe.leases" . -}}
metadata:
  annotations:
    kubectl.kubernetes.io/default-container: inferprobe
    {{- /* The daemon follows its other keys, and the files that hold keys, without a restart. */}}
    {{- with pick .Values.config "history" "metrics" }}
    checksum/config: {{ toJson . | sha256sum }}
    {{- end }}
    {{- with include "inferprobe.secrets" . }}
    checksum/env: {{ . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "inferprobe.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "inferprobe.serviceAccountName" . }}
  automountServiceAccountToken: {{ not (empty $leases) }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- if $job }}
  restartPolicy: Never
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: inferprobe
      image: {{ include "inferprobe.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - {{ $job | ternary "run" "serve" }}
        {{- if .Values.endpoints }}
        - --config.file=/etc/inferprobe/config/inferprobe.yaml
        {{- end }}
        {{- if $leases }}
        - --lease.enable
        - --lease.name={{ include "inferprobe.fullname" . }}
        - --lease.duration={{ .Values.lease.duration }}
        {{- end }}
        {{- if and .Values.web.configSecret (not $job) }}
        - --web.config.file=/etc/inferprobe/web/web.yaml
        {{- end }}
        {{- if and .Values.web.enableLifecycle (not $job) }}
        - --web.enable-lifecycle
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "inferprobe.env" . | trim | nindent 8 }}
      {{- if not $job }}
      ports:
        - name: http
          containerPort: 9923
      livenessProbe:
        {{- include "inferprobe.check" (dict "path" "/-/healthy" "root" .) | trim | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- include "inferprobe.check" (dict "path" "/-/ready" "root" .) | trim | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/inferprobe
        {{- if .Values.endpoints }}
        - name: config
          mountPath: /etc/inferprobe/config
          readOnly: true
        {{- end }}
        {{- if .Values.apiKeySecrets }}
        - name: keys
          mountPath: /etc/inferprobe/keys
          readOnly: true
        {{- end }}
        {{- if and .Values.web.configSecret (not $job) }}
        - name: web
          mountPath: /etc/inferprobe/web
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "inferprobe.volumes" . | nindent 4 }}
  {{- if $leases }}
  topologySpreadConstraints:
    {{- include "inferprobe.spread" . | trim | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "inferprobe.env" -}}
{{- $secrets := include "inferprobe.secrets" . | fromYaml }}
{{- range $name, $value := .Values.env_vars }}
{{- if not (has (toJson $value) (list "null" "\"\"")) }}
{{ include "inferprobe.variable" (dict "name" $name "value" $value "secrets" $secrets "fullname" (include "inferprobe.fullname" $)) }}
{{- end }}
{{- end }}
{{- if not .Values.env_vars.HF_HOME }}
- name: HF_HOME
  value: /var/lib/inferprobe/huggingface
{{- end }}
{{- if include "inferprobe.leases" . }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- with include "inferprobe.gomemlimit" . }}
- name: GOMEMLIMIT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A probe of .path. The kubelet knows no password: where one may be asked for, it can only try the port. */}}
{{- define "inferprobe.check" -}}
{{- if .root.Values.web.configSecret }}
tcpSocket:
  port: http
{{- else }}
httpGet:
  path: {{ .path }}
  port: http
{{- end }}
{{- end }}

{{/* Replicas on nodes and in zones of their own, where there are enough of them. */}}
{{- define "inferprobe.spread" -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "inferprobe.selectorLabels" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{- define "inferprobe.volumes" -}}
- name: state
  {{- if .Values.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim | default (include "inferprobe.fullname" .) }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.persistence.size }}
  {{- end }}
{{- if and .Values.web.configSecret (ne .Values.mode "job") }}
- name: web
  secret:
    secretName: {{ .Values.web.configSecret }}
{{- end }}
{{- if .Values.endpoints }}
- name: config
  configMap:
    name: {{ include "inferprobe.fullname" . }}
{{- end }}
{{- with .Values.apiKeySecrets }}
- name: keys
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ . }}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

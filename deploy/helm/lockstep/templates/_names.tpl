{{- define "lockstep.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* By these the pod is found; they never change. */}}
{{- define "lockstep.selector" -}}
app.kubernetes.io/name: lockstep
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "lockstep.labels" -}}
{{ include "lockstep.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* lockstep.yaml, which has to know the names by which it is called. */}}
{{- define "lockstep.config" -}}
{{- $name := include "lockstep.name" . -}}
{{- $web := .Values.config.web | default dict -}}
{{- $hosts := concat (list $name (printf "%s.%s.svc" $name .Release.Namespace)) ($web.allowed_hosts | default list) | uniq -}}
{{- set (deepCopy .Values.config) "web" (set (deepCopy $web) "allowed_hosts" $hosts) | toYaml -}}
{{- end -}}

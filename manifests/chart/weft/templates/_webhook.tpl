{{- define "weft.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  # caBundle is the control plane's to set.
  service: {name: {{ .injector }}, namespace: {{ .namespace }}, path: /inject, port: 443}
failurePolicy: {{ .values.failurePolicy }}
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
rules:
- {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}
sideEffects: None
timeoutSeconds: {{ .values.timeoutSeconds }}
{{- end -}}

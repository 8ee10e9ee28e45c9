// The schemas of ServiceMonitor and PrometheusRule, as the operator's module holds them; nothing is built from it.
module autoretrain.test/operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0

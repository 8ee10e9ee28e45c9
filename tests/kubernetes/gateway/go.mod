// The schema of HTTPRoute, as the module of the Gateway API holds it; nothing is built from it.
module autoretrain.test/gateway

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.3

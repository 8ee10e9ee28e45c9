"""Write the alerts of ``deploy/prometheus`` as a PrometheusRule; run it after a change of them."""

from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "prometheus" / "alerts.yaml"
TARGET = HERE / "kubernetes" / "monitoring" / "alerts.yaml"
_HEAD = """# Written by deploy/make_prometheus_rule.py; change deploy/prometheus/alerts.yaml, and run it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: autoretrain
  namespace: autoretrain
  labels:
    app.kubernetes.io/name: autoretrain
spec:
"""


def rule() -> str:
    """The object, whose ``spec`` is the file of rules, line by line."""
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    groups = lines[lines.index("groups:") :]
    return _HEAD + "".join(f"  {line}\n" for line in groups)


if __name__ == "__main__":
    TARGET.write_text(rule(), encoding="utf-8")

"""What every GPU carries, by the best source there is.

- `sources`: all sources together.
- `readings`: one reading for each GPU out of many.
- `exporters`: scrapes DCGM exporter pods.
- `dcgm`: the format of their metrics.
- `prometheus`: asks a Prometheus server.
- `prometheus_answers`: the format of its answers.
- `smoothing`: the moving average of utilisation.
"""

"""What every GPU carries, by the best source there is.

- `sources`: all sources together.
- `readings`: one reading for each GPU out of many.
- `merged`: the same, kept as sources change.
- `exporters`: scrapes DCGM exporter pods.
- `trust`: which of them are believed.
- `dcgm`: what their metrics say.
- `exposition`: the lines of their answers.
- `labels`: which GPU a sample is of, and which pod holds it.
- `prometheus`: asks a Prometheus server.
- `hosts`: which node the labels of a sample name.
- `prometheus_answers`: the format of its answers.
- `smoothing`: the moving average of utilisation.
"""

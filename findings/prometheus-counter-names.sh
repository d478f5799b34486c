#!/usr/bin/env bash
# Guess: prometheus_client's parser gives samples the names that stand in the text.
# What happens (prometheus-client 0.26.0): a sample of type counter whose name doesn't end in `_total` is given that
#   ending, as OpenMetrics would have it. The same line without its TYPE line keeps its name, as gauges do. Where TYPE
#   names the counter without the ending and the sample has it, the family is there but empty, and the sample lies in
#   a family of its own of type unknown.
# Why it matters here: programs in Go and C++ choose their names freely. DCGM's exporter has counters like
#   DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION; looked up under that name, their samples are missing without any error, and a
#   graph in Prometheus still shows them. We parse line by line, without types, so a name means what the exporter wrote.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check prometheus-client==0.26.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

from prometheus_client.parser import text_string_to_metric_families

ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
failed = []


def parse(what, text, expected):
    found = {}
    for family in text_string_to_metric_families(text):
        found[family.name, family.type] = [sample.name for sample in family.samples]
    print(f"{what}:", *(f"\n  {name} ({kind}) {samples}" for (name, kind), samples in found.items()))
    if found != expected:
        failed.append(what)


print("prometheus-client", importlib.metadata.version("prometheus-client"))
line = f'{ENERGY}{{gpu="0"}} 1234\n'
parse(
    "as the exporter writes it",
    f"# TYPE {ENERGY} counter\n{line}",
    {(ENERGY, "counter"): [f"{ENERGY}_total"]},
)
parse("without TYPE", line, {(ENERGY, "unknown"): [ENERGY]})
parse("as a gauge", f"# TYPE {ENERGY} gauge\n{line}", {(ENERGY, "gauge"): [ENERGY]})
parse(
    "TYPE without the ending, sample with it",
    "# TYPE requests counter\nrequests_total 7\n",
    {("requests", "counter"): [], ("requests_total", "unknown"): ["requests_total"]},
)
raise SystemExit(f"changed: {failed}" if failed else 0)
PYTHON

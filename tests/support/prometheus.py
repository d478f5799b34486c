"""How Prometheus asks for metrics, and how it reads them."""

from collections.abc import Mapping
from typing import Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

_PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"

ACCEPT: Final[Mapping[str, tuple[str, str]]] = {
    "2.45": (
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
        _OPENMETRICS,
    ),
    "2.53": (
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ),
        _OPENMETRICS,
    ),
    "2.53 with native histograms": (
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,"
            "application/openmetrics-text;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        _OPENMETRICS,
    ),
    "3.0": (
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ),
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    ),
    "3.0, plain preferred": (
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.3,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5"
        ),
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    ),
    "curl": ("*/*", _PLAIN),
    "nothing": ("", _PLAIN),
    "an older version": ("application/openmetrics-text;version=0.0.1", _PLAIN),
    "a newer version": ("application/openmetrics-text;version=99.0.0,text/plain;version=99.0.0", _PLAIN),
    "no version": ("application/openmetrics-text;version=abc", _PLAIN),
    "another version in quotes": ('text/plain;version="1.0.0"', _PLAIN),
    "not that one": ("application/openmetrics-text;version=1.0.0;q=0", _PLAIN),
    "too much": ("text/plain;version=1.0.0;" * 200, _PLAIN),
}
"""What is sent as `Accept`, by versions of Prometheus and others, and the type of the answer."""


def families(text: str, media_type: str) -> frozenset[str]:
    """Return the names of the families in an exposition, which has to be as its type says."""
    is_openmetrics = media_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n") is is_openmetrics
    return frozenset(each.name for each in (openmetrics if is_openmetrics else plain)(text))

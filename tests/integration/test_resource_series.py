"""Metrics with the names of resources: those of a whole operator, as Prometheus scrapes them."""

from prometheus_client import CollectorRegistry

from tests.support.stage import stage, until


def of(registry: CollectorRegistry, family: str, name: str, **labels: str) -> float | None:
    where = {"resource_namespace": "default", "resource": name} | labels
    return registry.get_sample_value(f"ocr_operator_resource_{family}", where)


async def test_resource_has_series_until_it_is_gone() -> None:
    async with stage() as cluster:
        models = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "2Gi"}]
        await cluster.apply(replicas=1, gpu={"sharing": "shared"}, models=models)
        await until(lambda: cluster.holds("Ready"))
        found = cluster.registry
        await until(lambda: of(found, "replicas", "invoices", state="ready") == 1)
        assert of(found, "condition", "invoices", condition="Ready", status="True") == 1
        assert of(found, "condition", "invoices", condition="Ready", status="False") is None
        assert of(found, "gpu_memory_bytes", "invoices", kind="promised") == 2 * 2**30
        before = of(found, "settings_revision", "invoices")
        assert before == cluster.status()["liveSettings"]["revision"]

        await cluster.delete("invoices")
        await until(lambda: of(found, "replicas", "invoices", state="wanted") is None)


async def test_number_of_resources_with_series_is_bounded() -> None:
    async with stage(resource_series=1) as cluster:
        for name in ("letters", "forms"):
            await cluster.apply(name, replicas=0)
        found = cluster.registry
        await until(lambda: found.get_sample_value("ocr_operator_resource_series_omitted") == 1)
        assert of(found, "replicas", "forms", state="wanted") == 0
        assert of(found, "replicas", "letters", state="wanted") is None


async def test_losses_of_watches_are_counted_from_the_start() -> None:
    """Each kind that is watched has its series before the first loss: else that one would be no increase."""
    async with stage() as cluster:
        controller = cluster.controller
        assert controller is not None
        for kind in {each.kind.plural for each in controller.cluster.informers}:
            found = cluster.registry.get_sample_value("ocr_operator_watch_losses_total", {"kind": kind})
            assert found == 0, kind

"""Policies from the API server to the pods and back into both statuses, against the small cluster in memory."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ocr_operator.kube import api
from tests.support.stage import Stage, stage, until

OFFLOAD = "idle.offloadAfterSeconds"


def offload(seconds: int) -> dict[str, int]:
    return {"offloadAfterSeconds": seconds}


def pods_run_by(here: Stage, seconds: int, name: str = "invoices") -> bool:
    pods = [pod for each, pod in here.pods.items() if each.startswith(name)]
    return bool(pods) and all(
        pod.settings["values"].get("idle", {}).get("offloadAfterSeconds") == seconds for pod in pods
    )


def events(here: Stage, reason: str) -> list[str]:
    return [each["message"] for each in here.objects(api.EVENT).values() if each["reason"] == reason]


def accepted(here: Stage, name: str) -> dict[str, Any]:
    [found] = here.policy_status(name).get("conditions") or [{}]
    return dict(found)


async def test_policy_reaches_the_pods_and_both_statuses() -> None:
    async with stage() as here:
        await here.apply()
        await until(here.applied)
        pods, revision = set(here.pods), here.status()["liveSettings"]["revision"]

        await here.policy("saver", idle=offload(5))
        await until(lambda: pods_run_by(here, 5), what="pods work by the policy")
        await until(lambda: here.applied() and here.source(OFFLOAD) == ("5", "OcrIdlePolicy/saver"))
        assert here.status()["liveSettings"]["revision"] == revision + 1
        await until(lambda: events(here, "PolicyChangedSettings"))
        assert events(here, "PolicyChangedSettings") == [f"{OFFLOAD} 60 → 5 (OcrIdlePolicy/saver)"]
        await until(lambda: here.policy_status("saver").get("effective") == 1)
        assert here.policy_status("saver") | {"conditions": []} == {
            "observedGeneration": 1,
            "active": True,
            "matched": 1,
            "effective": 1,
            "overridden": 0,
            "conditions": [],
        }
        assert accepted(here, "saver")["status"] == "True"

        policy = here.objects(api.OCR_IDLE_POLICY)["saver"]
        await here.kube.delete(api.ref_of(policy), uid=policy["metadata"]["uid"])
        await until(lambda: pods_run_by(here, 60), what="pods are back at the default")
        await until(lambda: here.source(OFFLOAD) == ("60", "default"))
        assert set(here.pods) == pods, "no pod was replaced"


async def test_policies_that_contradict_have_a_visible_winner_and_loser() -> None:
    async with stage() as here:
        await here.policy("weak", priority=1, idle=offload(1))
        await here.policy("strong", priority=2, idle=offload(2))
        await here.apply()
        await until(lambda: here.applied() and pods_run_by(here, 2))
        assert here.source(OFFLOAD) == ("2", "OcrIdlePolicy/strong")
        await until(lambda: here.policy_status("weak").get("overridden") == 1)
        await until(lambda: here.policy_status("strong").get("effective") == 1)
        assert here.policy_status("weak")["effective"] == 0
        assert here.policy_status("strong")["overridden"] == 0
        assert accepted(here, "weak")["message"] == (
            "sets values of 0 of the 1 resources that it selects; in 1 the resource itself or a stronger policy wins"
        )


async def test_only_what_is_selected_changes() -> None:
    async with stage() as here:
        await here.apply()
        await here.policy("billing", selector={"matchLabels": {"team": "billing"}}, idle=offload(5))
        await until(here.applied)
        assert here.source(OFFLOAD) == ("60", "default")

        ref = api.ref_of(here.resource())
        await here.kube.patch(ref, [{"op": "add", "path": "/metadata/labels", "value": {"team": "billing"}}])
        await until(lambda: pods_run_by(here, 5), what="a label brings it under the policy")
        await until(lambda: here.policy_status("billing").get("matched") == 1)


async def test_namespaces_are_selected_by_their_labels() -> None:
    async with stage() as here:
        await here.policy("gold", namespaceSelector={"matchLabels": {"tier": "gold"}}, idle=offload(5))
        await here.policy(
            "by-name",
            namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            idle={"exitAfterSeconds": 7},
        )
        await here.apply()
        await until(here.applied)
        assert here.source(OFFLOAD) == ("60", "default")
        assert here.source("idle.exitAfterSeconds") == ("7", "OcrIdlePolicy/by-name")

        meta = {"name": "default", "labels": {"tier": "gold"}}
        await here.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        await until(lambda: pods_run_by(here, 5), what="the namespace's label brings it under the policy")


async def test_unknown_time_zone_is_a_condition_and_nothing_else() -> None:
    async with stage() as here:
        window = {"start": "00:00", "end": "24:00", "timeZone": "Mars/Base"}
        await here.policy("alien", windows=[window], idle=offload(5))
        await here.apply()
        await until(here.applied)
        await until(lambda: accepted(here, "alien"))
        assert accepted(here, "alien")["reason"] == "UnknownTimeZone"
        assert "'Mars/Base'" in accepted(here, "alien")["message"]
        assert here.source(OFFLOAD) == ("60", "default")

        await here.policy("alien", windows=[window | {"timeZone": "UTC"}], idle=offload(5))
        await until(lambda: pods_run_by(here, 5), what="it counts once it is mended")
        await until(lambda: accepted(here, "alien")["status"] == "True")


async def test_settings_change_when_a_window_opens_and_closes() -> None:
    async with stage(operator=False) as here:
        shift = datetime(2026, 11, 25, 7, 59, 58, tzinfo=UTC) - datetime.now(UTC)
        here.clock = lambda: datetime.now(UTC) + shift
        await here.start()
        await here.policy("base", idle=offload(5))
        await here.policy(
            "office", priority=1, windows=[{"start": "08:00", "end": "18:00"}], idle=offload(900)
        )
        await here.apply()
        await until(lambda: here.source(OFFLOAD) == ("5", "OcrIdlePolicy/base"))
        await until(lambda: here.policy_status("office").get("nextChange") == "2026-11-25T08:00:00Z")
        await until(lambda: pods_run_by(here, 900), what="the window opens")
        assert here.clock() >= datetime(2026, 11, 25, 8, tzinfo=UTC)
        await until(lambda: here.policy_status("office").get("nextChange") == "2026-11-25T18:00:00Z")
        assert here.policy_status("office")["active"] is True

        await here.kill()
        evening = shift + timedelta(hours=10)
        here.clock = lambda: datetime.now(UTC) + evening
        await here.start()
        await until(lambda: pods_run_by(here, 5), what="the window is closed after a restart")
        await until(lambda: here.policy_status("office").get("active") is False)


async def test_nothing_is_written_while_nothing_happens() -> None:
    async with stage() as here:
        await here.policy("office", windows=[{"start": "00:00", "end": "24:00"}], idle=offload(5))
        await here.apply()
        await until(lambda: here.applied() and here.policy_status("office").get("effective") == 1)

        def passes() -> float:
            labels = {"result": "done"}
            return here.registry.get_sample_value("ocr_operator_reconciles_total", labels) or 0.0

        async def look_at_both() -> None:
            assert here.controller is not None
            before = passes()
            here.controller.policy_queue.enqueue(("", "office"), urgent=True)
            here.controller.queue.enqueue(("default", "invoices"), urgent=True)
            await until(lambda: passes() >= before + 2)

        await look_at_both()
        writes = here.kube.calls["apply_status"]
        await look_at_both()
        await look_at_both()
        assert here.kube.calls["apply_status"] == writes


async def test_cluster_without_the_definition_has_no_policies() -> None:
    """An operator that is newer than the definitions of its cluster works on, without policies."""
    async with stage(operator=False) as here:
        here.kube.undefined.add(api.OCR_IDLE_POLICY)
        await here.start()
        await here.apply()
        await until(here.applied)


async def test_wiped_policy_status_is_mended() -> None:
    async with stage() as here:
        await here.policy("saver", idle=offload(5))
        await here.apply()
        await until(partial(accepted, here, "saver"))
        ref = api.Ref(api.OCR_IDLE_POLICY, "", "saver")
        await here.kube.patch(ref, [{"op": "replace", "path": "/status", "value": {"matched": 99}}])
        await until(lambda: here.policy_status("saver").get("matched") == 1)

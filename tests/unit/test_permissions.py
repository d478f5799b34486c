"""Permissions grow only with a line that uses them: each verb of the operator's role, and where it is used.

That no call needs more is shown by every test of the whole operator (`tests/support/authorized.py`).
"""

import pytest

from ocr_operator.kube import api
from ocr_wire import names
from tests.support import authorized
from tests.support.fakekube import FakeKube
from tests.support.paths import ROOT

OURS, CORE = names.GROUP, ""
STATE = "controllers/cluster_state.py"
APPLY = ("controllers/children.py", "await self._kube.apply(api.as_new(new) if blind else new)")
DELETE = ("controllers/children.py", "await self._kube.delete(api.ref_of(old)")
FOREIGN = ("controllers/children.py", "found.append(await self._kube.get(api.ref_of(each)))")
LEASE = "controllers/leases.py"


def watched(*informers: tuple[str, str, str, str]) -> dict[authorized.Right, tuple[str, str]]:
    return {
        (group, plural, verb): (file, line)
        for group, plural, file, line in informers
        for verb in ("list", "watch")
    }


USES: dict[authorized.Right, tuple[str, str]] = {
    **watched(
        (OURS, names.PLURAL, STATE, "kube, api.OCR_DEPLOYMENT, informer.raw"),
        (OURS, names.POLICY_PLURAL, STATE, "kube, api.OCR_IDLE_POLICY, policies.parse"),
        (CORE, "pods", STATE, "kube, api.POD, self._pod_reader.read, time=time, on_change"),
        (CORE, "nodes", STATE, "kube, api.NODE, observed.node"),
        (CORE, "namespaces", STATE, "kube, api.NAMESPACE, observed.namespace"),
        (CORE, "services", STATE, "for kind in (api.DEPLOYMENT, api.SERVICE)"),
        ("apps", "deployments", STATE, "for kind in (api.DEPLOYMENT, api.SERVICE)"),
        ("policy", "poddisruptionbudgets", "controllers/budgets.py", "kube, api.BUDGET, edits.view"),
    ),
    (OURS, names.PLURAL, "get"): ("controllers/passes.py", "await self._context.kube.get(ref)"),
    (OURS, names.PLURAL, "patch"): ("controllers/overrides.py", "await context.kube.patch(ref, operations)"),
    (OURS, f"{names.PLURAL}/status", "patch"): ("controllers/reports.py", "await self._kube.apply_status("),
    # Of owner references with blockOwnerDeletion, where the cluster enforces their permission.
    (OURS, f"{names.PLURAL}/finalizers", "update"): (
        "decide/manifests/common.py",
        '"blockOwnerDeletion": True',
    ),
    (OURS, names.POLICY_PLURAL, "get"): ("controllers/policies.py", "await self._kube.get(ref)"),
    (OURS, f"{names.POLICY_PLURAL}/status", "patch"): (
        "controllers/policies.py",
        "await self._kube.apply_status(",
    ),
    **{
        (group, plural, verb): line
        for group, plural in (
            ("apps", "deployments"),
            (CORE, "services"),
            ("policy", "poddisruptionbudgets"),
        )
        for verb, line in (("get", FOREIGN), ("create", APPLY), ("patch", APPLY), ("delete", DELETE))
    },
    (CORE, "secrets", "get"): ("controllers/children.py", "return await self._kube.get(ref)"),
    (CORE, "secrets", "create"): (
        "controllers/children.py",
        "return await self._kube.apply(api.as_new(secret))",
    ),
    (CORE, "secrets", "patch"): APPLY,
    (CORE, "pods", "patch"): ("controllers/context.py", "await self._kube.patch(api.Ref(api.POD"),
    (CORE, "pods", "delete"): ("controllers/placing.py", "await self._context.kube.delete(ref, uid=pod.uid"),
    (CORE, "pods/status", "patch"): ("controllers/placing.py", 'subresource="/status"'),
    (CORE, "persistentvolumeclaims", "get"): (
        "controllers/volumes.py",
        "api.Ref(api.PERSISTENT_VOLUME_CLAIM",
    ),
    (CORE, "persistentvolumes", "get"): ("controllers/volumes.py", "api.Ref(api.PERSISTENT_VOLUME,"),
    ("storage.k8s.io", "storageclasses", "get"): ("controllers/volumes.py", "api.Ref(api.STORAGE_CLASS,"),
    ("resource.k8s.io", "resourceclaims", "get"): ("controllers/claims.py", "await kube.get(ref)"),
    ("resource.k8s.io", "resourceclaims", "create"): ("controllers/claims.py", "await kube.create(manifest)"),
    ("resource.k8s.io", "resourceclaims", "delete"): ("controllers/claims.py", "await kube.delete(ref"),
    ("coordination.k8s.io", "leases", "get"): (
        "controllers/ownership.py",
        "lease = await self._kube.get(ref)",
    ),
    ("coordination.k8s.io", "leases", "create"): (LEASE, "await kube.create({**kind"),
    ("coordination.k8s.io", "leases", "patch"): (LEASE, "await kube.patch(lease"),
    (CORE, "events", "create"): ("controllers/recorder.py", "await self._kube.create(manifest)"),
    (CORE, "events", "patch"): ("controllers/recorder.py", "await self._kube.patch("),
    (CORE, "events", "list"): ("controllers/startups.py", "await context.kube.find(kind"),
}
"""Right → the line that uses it."""


def test_role_grants_what_is_used_and_nothing_else() -> None:
    assert authorized.granted() == USES.keys()


@pytest.mark.parametrize("right", USES, ids=" ".join)
def test_line_that_uses_a_right_is_there(right: authorized.Right) -> None:
    file, line = USES[right]
    assert line in (ROOT / "operator" / "ocr_operator" / file).read_text(encoding="utf-8")


async def test_call_that_no_rule_grants_is_refused() -> None:
    kube = authorized.Authorized(FakeKube())
    with pytest.raises(api.Refused):
        await kube.delete(api.Ref(api.SECRET, "a", "b"), uid="c")
    with pytest.raises(api.Refused):
        await kube.get(api.Ref(api.LEASE, "kube-system", "kube-scheduler"))
    with pytest.raises(api.NotFound):
        await kube.get(api.Ref(api.LEASE, "a", "ocr-operator-owner"))
    assert kube.denied == ["delete secrets b", "get leases kube-scheduler"]
    assert kube.used == {("coordination.k8s.io", "leases", "get")}

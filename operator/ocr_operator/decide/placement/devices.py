"""What device plugins and node labellers say of a node's GPUs: products, sizes, MIG profiles. docs/dialects.md has the
dialects.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol, TypeVar

from ocr_operator.gpuload import labels
from ocr_operator.resources.observed import Node
from ocr_wire import numbers, quantity

MIG: Final = "/mig-"
AMD: Final = "amd.com/"
D = TypeVar("D", bound="Device")
_SHARED: Final = ".shared"
_PROFILE: Final = re.compile(r"((?:[0-9]c\.)?[0-9]g)\.([0-9]{1,4})gb((?:[.+-][a-z.]{1,16})?)")
MEBIBYTE: Final = 2**20


class Profile(NamedTuple):
    """A MIG profile: `1g.10gb+me`, or `1g.10gb.me` in the name of a resource."""

    slices: str
    gigabytes: int
    extra: str


def profile(name: str) -> Profile | None:
    found = _PROFILE.fullmatch(name)
    return Profile(found[1], int(found[2]), found[3].replace("+", ".")) if found else None


def wanted_profile(resource: str) -> str:
    """Return the profile whose instances the resource hands out; empty where it hands out none in particular."""
    return resource.partition(MIG)[2].removesuffix(_SHARED)


class Device(Protocol):
    """A GPU or MIG instance."""

    @property
    def mig(self) -> str: ...


def instances(wanted: str, found: Iterable[D]) -> list[D]:
    """List the instances of a profile. Exporters and plugins round sizes apart: where none is of the very size, those
    that are a gigabyte apart are meant.
    """
    ask = profile(wanted)
    known = [(each, profile(each.mig.partition("/")[2])) for each in found if each.mig]
    exact = [each for each, given in known if given is not None and given == ask]
    return exact or [
        each for each, given in known if ask is not None and given is not None and _near(ask, given)
    ]


def _near(one: Profile, other: Profile) -> bool:
    same = (one.slices, one.extra) == (other.slices, other.extra)
    return same and abs(one.gigabytes - other.gigabytes) <= 1


def product_label(resource: str) -> str:
    """Return the label of nodes that names the product of the resource's GPUs."""
    return "amd.com/gpu.product-name" if resource.startswith(AMD) else "nvidia.com/gpu.product"


def spellings(products: Iterable[str]) -> tuple[str, ...]:
    """List the values of that label that GPUs of the products may have; not those of MIG, which are too many."""
    bases = {labels.product(each) for each in products}
    return tuple(sorted({*products, *bases, *(f"{each}-SHARED" for each in bases)}))


def cut(node: Node) -> bool:
    """Return whether some or all GPUs of the node are in MIG instances, by what it hands out and its product's name."""
    if "-MIG-" in node.labels.get("nvidia.com/gpu.product", ""):
        return True
    return any(MIG in name and amount > 0 for name, amount in node.allocatable.items())


def instance_bytes(node: Node, name: str) -> int | None:
    """The size of the node's instances of a profile: by their label, by that of all GPUs where all are cut alike
    (strategy `single`), else nine tenths of what the profile's name says, which no product falls short of.
    """
    spelled = name.replace("+", ".")
    if (size := _mebibytes(node, f"nvidia.com/mig-{spelled}.memory")) is not None:
        return size
    if "-MIG-" in node.labels.get("nvidia.com/gpu.product", ""):
        return _mebibytes(node, "nvidia.com/gpu.memory")
    known = profile(name)
    return None if known is None else known.gigabytes * 10**9 * 9 // 10


def gpu_bytes(node: Node, resource: str) -> int | None:
    """The size of each GPU that the resource hands out by the node's labels; None where they don't say."""
    if name := wanted_profile(resource):
        return instance_bytes(node, name)
    if resource.startswith(AMD):
        number = quantity.parse(f"{node.labels.get('amd.com/gpu.vram', '')}i")
        return int(number) if number is not None and 0 < number < 2**50 else None
    return _mebibytes(node, "nvidia.com/gpu.memory")


def replicated(node: Node, gpus: int) -> bool:
    """Return whether the plugin hands out more devices than there are GPUs, though no label says so: each of the `gpus`
    that are reported makes the same number of them, two at least.
    """
    if not gpus or cut(node):
        return False
    amounts = (amount for name, amount in node.allocatable.items() if name.endswith("/gpu"))
    return any(amount >= 2 * gpus and amount % gpus == 0 for amount in amounts)


def _mebibytes(node: Node, label: str) -> int | None:
    number = numbers.whole(node.labels.get(label, ""), 1, 99_999_999)
    return None if number is None else number * MEBIBYTE

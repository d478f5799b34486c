"""Which memory of a process a file can take over, by the kernel's words."""

import pytest

from ocr_inference.workers import memory_map

SMAPS = """\
55c8be200000-55c8c8800000 rw-p 00000000 00:00 0                          [heap]
Size:             170000 kB
Rss:              165952 kB
Anonymous:        165952 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac sd hg
7f0000000000-7f0000100000 r-xp 00001000 fe:00 12                         /lib/a folder/libtorch.so
Rss:                 512 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me sd
7f0000100000-7f0000200000 rw-p 00101000 fe:00 12                         /lib/a folder/libtorch.so
Rss:                 512 kB
Anonymous:           256 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac sd
7f0000300000-7f0000400000 rw-p 00000000 00:00 0
Rss:                1024 kB
Anonymous:          1024 kB
VmFlags: rd wr mr mw me ac sd wf
"""
HEAP, TEXT, VARIABLES, FORGOTTEN = memory_map.parse(SMAPS)


def mapping(
    head: str = "1000-200000 rw-p 0 00:00 0",
    flags: str = "rd wr mr mw me ac sd",
    *,
    own: int = 1024,
    swapped: int = 0,
) -> str:
    sizes = {"Rss": 1024, "Anonymous": own, "Swap": swapped}
    lines = "".join(f"{name}: {size} kB\n" for name, size in sizes.items())
    return f"{head}\n{lines}VmFlags: {flags}\n"


def test_mappings_are_read_with_their_names_and_sizes() -> None:
    assert (HEAP.start, HEAP.size, HEAP.name) == (0x55C8BE200000, 0xA600000, "[heap]")
    assert (HEAP.own_bytes, HEAP.is_file) == (165952 << 10, False)
    assert (TEXT.name, TEXT.perms, TEXT.resident_bytes) == ("/lib/a folder/libtorch.so", "r-xp", 512 << 10)
    assert FORGOTTEN.name == ""
    assert memory_map.parse("") == []


def test_own_memory_is_swapped_out_and_files_that_nothing_wrote_are_dropped() -> None:
    all_of_them = (HEAP, TEXT, VARIABLES, FORGOTTEN)
    assert memory_map.to_swap_out(all_of_them) == [HEAP]
    assert memory_map.to_drop(all_of_them) == [TEXT]
    assert memory_map.to_page_out(all_of_them) == [VARIABLES]


@pytest.mark.parametrize("flag", ["wf", "dc", "lo", "gd", "io", "um", "??"])
def test_memory_of_a_kind_that_a_file_has_not_stays(flag: str) -> None:
    """What a fork gets as zeros keeps random generators apart; copied, they would repeat each other."""
    (plain,) = memory_map.parse(mapping())
    (special,) = memory_map.parse(mapping(flags=f"rd wr mr mw me ac sd {flag}"))
    assert memory_map.to_swap_out([plain, special]) == [plain]


@pytest.mark.parametrize(
    "described",
    [
        mapping("1000-200000 rw-s 0 00:01 7 /memfd:ocr-weights (deleted)"),
        mapping("1000-200000 rw-p 0 00:00 0 [stack]"),
        mapping("1000-200000 ---p 0 00:00 0"),
        mapping("1000-200000 rw-p 0 fe:00 7 /lib/libc.so.6"),
        mapping(own=4),
        mapping().replace("VmFlags", "Other"),
    ],
    ids=["shared", "stack", "guard", "variables of libraries", "little", "not described"],
)
def test_these_stay(described: str) -> None:
    assert memory_map.to_swap_out(memory_map.parse(described)) == []


@pytest.mark.parametrize(("own", "swapped"), [(4, 0), (0, 4)])
def test_a_file_with_a_page_of_our_own_is_not_dropped(own: int, swapped: int) -> None:
    """Dropped, that page would be the file's again."""
    text = mapping("1000-200000 r--p 0 fe:00 7 /lib/libtorch.so", own=own, swapped=swapped)
    assert memory_map.to_drop(memory_map.parse(text)) == []


def test_a_range_is_cut_out_of_a_mapping() -> None:
    (each,) = memory_map.parse(mapping("1000-9000 rw-p 0 00:00 0"))
    assert memory_map.without(each, 0x3000, 0x5000) == [(0x1000, 0x3000), (0x5000, 0x9000)]
    assert memory_map.without(each, 0x1000, 0x5000) == [(0x5000, 0x9000)]
    assert memory_map.without(each, 0xA000, 0xB000) == [(0x1000, 0x9000)]
    assert memory_map.without(each, 0x0, 0xB000) == []


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /tmp rw - tmpfs tmpfs rw
24 22 0:21 / /data/a\\040b rw shared:2 master:1 - nfs4 server:/b rw
25 22 0:22 / /tmp/disk rw - xfs /dev/vdb rw
not a line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/tmp", "ext4"),
        ("/tmp", "tmpfs"),
        ("/tmp/disk/x", "xfs"),
        ("/tmp/disks", "tmpfs"),
        ("/data/a b/c", "nfs4"),
    ],
)
def test_a_folder_is_on_the_file_system_that_is_mounted_nearest(folder: str, kind: str) -> None:
    assert memory_map.file_system(MOUNTS, folder) == kind
    assert memory_map.file_system("", folder) == ""

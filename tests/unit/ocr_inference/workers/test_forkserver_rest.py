"""When a forkserver gives its memory back."""

from ocr_inference.workers.forkserver_process import REST_SECONDS, SWAP_SECONDS, Rest


def test_swapping_out_waits_for_the_first_pages_of_what_was_forked() -> None:
    assert Rest(swaps=True).after(forks=True) == SWAP_SECONDS
    assert Rest(swaps=True).after(forks=False) == REST_SECONDS, "nothing reads pages, and a load ends it"
    assert Rest(swaps=False).after(forks=True) == REST_SECONDS, "giving back alone costs little"

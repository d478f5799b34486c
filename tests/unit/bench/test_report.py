"""How results are named, and how they say that they are measured again."""

from bench import report
from bench.report import Result

USUAL = Result("scale", "", ())
OTHER = Result("scale", "", (), variant="5000-pods")
ON_GPU = Result("wake", "", (), accelerator="H200")


def test_results_of_another_size_or_machine_stand_beside_the_usual_one() -> None:
    assert [report.name_of(each) for each in (USUAL, OTHER, ON_GPU)] == [
        "scale",
        "scale-5000-pods",
        "wake-gpu",
    ]


def test_the_command_has_the_settings_of_the_run() -> None:
    environ = {"HOME": "/home/me", "BENCH_SCALE_SECONDS": "1700", "BENCH_SCALE_PODS": "5000"}
    assert report.command(USUAL, {}) == "make bench ONLY=scale"
    assert report.command(ON_GPU, {}) == "make bench-gpu"
    assert (
        report.command(OTHER, environ)
        == "BENCH_SCALE_PODS=5000 BENCH_SCALE_SECONDS=1700 make bench ONLY=scale"
    )

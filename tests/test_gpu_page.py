"""The page that a run on a GPU fills."""

from gpu_page import page_of


def test_without_a_run_the_page_says_so_and_has_no_numbers() -> None:
    page = page_of(None)
    assert "No GPU could be had yet" in page
    assert page.splitlines()[-1] == "| --- | --- | --- | --- | --- |"


def test_a_run_becomes_tables_of_whole_windows_and_of_steps_apart() -> None:
    row = {"workload": "distinct", "flows": 1_500_000, "hosts": 3, "pairs": 2, "distinct_rows": None, "by": "kernels",
           "precision": "bfloat16", "from": "device", "seconds": 0.5}  # fmt: skip
    rows = [
        {**row, "step": "whole", "flows_per_s": 3e6},
        {**row, "step": "decoder", "flows_per_s": 9e7, "of_copy": 0.25},
    ]
    right = {"by": "kernels", "precision": "ieee", "what": "score", "flows": 7, "error": 1e-7, "written": True,
             "right": True}  # fmt: skip
    page = page_of(
        {"card": "some card", "started": "a day", "commit": "abc", "seed": 1, "versions": {"torch": "2"},
         "ceilings": {"tf32": 400.0, "device copy": 3000.0}, "errors": [right], "rows": rows, "blocks": [],
         "left_out": []}
    )  # fmt: skip
    assert "some card, a day, commit abc, seed 1" in page
    assert "tf32 400.0 TFLOP/s; device copy 3,000.0 GB/s" in page
    assert "| kernels | ieee | score | 7 | 1e-07 | True | True |" in page
    assert "| distinct | 1,500,000 | 3 | 2 |  | kernels | bfloat16 | device | 3,000,000 |" in page
    assert "| distinct | 1,500,000 | kernels | bfloat16 | device | decoder | 90,000,000 |  | 0.25 |  |  |" in page
    assert page.endswith("* nothing\n")

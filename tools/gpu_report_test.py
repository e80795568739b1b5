"""Tests of gpu/report.py, the part of the GPU measurement that needs no GPU."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "gpu"))
import report  # noqa: E402


def record(kind, part, ms, number, variant="fp8-full", **more):
    return {"kind": kind, "part": part, "ms": ms, "round": number, "variant": variant, **more}


def row_of(text, name):
    """The cells of the table row that begins with `name`."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == name:
            return cells[1:]
    raise AssertionError(f"no row {name} in\n{text}")


class SustainedSteps(unittest.TestCase):
    def test_the_first_steps_of_each_run_are_left_out(self):
        for name, runs, warm_ms, steps in [
                ("cold steps go", [[90, 91, 99, 100, 101, 102]], 180, [99, 100, 101, 102]),
                ("of each run", [[90, 100, 101], [91, 102, 103]], 50, [100, 101, 102, 103]),
                ("a short run keeps half", [[90, 91, 99, 100]], 1e6, [99, 100]),
                ("a single step stays", [[90]], 1e6, [90]),
                ("nothing to warm", [[90, 91]], 0, [90, 91]),
        ]:
            with self.subTest(name):
                self.assertEqual(report.sustained_steps(runs, warm_ms), steps)


class Table(unittest.TestCase):
    # The second round is slower throughout: a hot card.
    RECORDS = [
        record("floor", "all", 75.0, 0), record("floor", "gemm", 50.0, 0),
        record("peer", "compiled", 90.0, 0, peak_memory_gib=11.6), record("dither", "dither", 78.0, 0),
        record("floor", "all", 80.0, 1), record("floor", "gemm", 52.0, 1),
        record("peer", "compiled", 96.0, 1, peak_memory_gib=11.6), record("dither", "dither", 84.0, 1),
    ]

    def test_ratios_are_taken_round_by_round(self):
        text = report.variant_table(self.RECORDS, "fp8-full")
        self.assertEqual(row_of(text, "floor C")[:2], ["77.50", "1"])
        self.assertEqual(row_of(text, "**dither**")[:3],
                         ["81.00", "1.045 (1.040 .. 1.050)", "1.148 (1.143 .. 1.154)"])
        self.assertEqual(row_of(text, "diffusers, compiled"),
                         ["93.00", "1.200", "", "", "", "11.6"])

    def test_rounds_that_lack_one_of_both_do_not_count(self):
        text = report.variant_table(self.RECORDS[:-1], "fp8-full")
        self.assertEqual(row_of(text, "**dither**")[:3], ["78.00", "1.040", "1.154"])

    def test_floor_d_is_arithmetic(self):
        text = report.variant_table(self.RECORDS, "fp8-full", fp8_attention_ms=57 * .284)
        floor = 51 + 57 * .284
        self.assertEqual(row_of(text, "floor, D: gemm + fp8 attention")[0], f"{floor:.2f}")
        of_rounds = [78 / (50 + 57 * .284), 84 / (52 + 57 * .284)]
        self.assertEqual(row_of(text, "**dither**")[2].split()[1:],
                         [f"({of_rounds[0]:.3f}", "..", f"{of_rounds[1]:.3f})"])
        self.assertEqual(row_of(text, "floor C")[2], "")
        self.assertNotIn("D: gemm", report.variant_table(
            [record("floor", "gemm", 90.0, 0, "bf16")], "bf16"))

    def test_clocks_are_medians_of_rounds(self):
        records = [record("floor", "all", 75.0, number,
                          clocks={"sm_mhz_median": mhz, "power_w_median": watts})
                   for number, (mhz, watts) in enumerate([(1500, 690), (1600, 700), (1980, 300)])]
        self.assertEqual(row_of(report.variant_table(records, "fp8-full"), "floor C")[3:5],
                         ["1600", "690"])

    def test_without_a_floor_or_a_peer(self):
        text = report.variant_table([record("dither", "dither", 78.0, 0)], "fp8-full")
        self.assertEqual(row_of(text, "**dither**"), ["78.00", "", "", "", "", ""])


class Document(unittest.TestCase):
    def test_says_where_and_what_failed(self):
        text = report.markdown({
            "device": "NVIDIA H200", "torch": "2.11.0", "stopped": "3 s were left",
            "records": [*Table.RECORDS,
                        record("floor", "all", 114.0, 0, "bf16", commit_hash="0abc"),
                        {"kind": "dither", "part": "dither", "variant": "bf16",
                         "error": "RuntimeError: exit 1:\ndither: error: out of memory"}],
        })
        self.assertTrue(text.startswith("NVIDIA H200, torch 2.11.0, dither 0abc\n"), text)
        for part in ["fp8-full, medians of 2", "bf16, medians of 1", "stopped early: 3 s were left",
                     "failed: dither, dither, bf16: dither: error: out of memory"]:
            self.assertIn(part, text)


if __name__ == "__main__":
    unittest.main()

"""Tests of gpu/loading.py without a GPU and without dither: a script stands in for it."""
import contextlib
import io
import json
import os
import pathlib
import stat
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "gpu"))
import loading  # noqa: E402

RESULT = {"load_ms": 1200.0, "device_ms": 200.0, "weight_bytes": 3_000_000, "residency": "resident"}


class Loading(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="dither-loading-")
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.model = self.folder / "model"
        for name, size in [("a/x.safetensors", 3_000_001), ("b/y.safetensors", 17), ("empty", 0)]:
            path = self.model / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"z" * size)

    def dither(self, text):
        """A program that writes RESULT where --json says, or does what `text` says."""
        path = self.folder / "dither"
        path.write_text(f"#!{sys.executable}\nimport json, sys\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return os.fspath(path)

    def run_main(self, *arguments):
        printed = io.StringIO()
        command = ["loading.py", "--model", os.fspath(self.model), "--device", "cpu", *arguments]
        with mock.patch.object(sys, "argv", command), contextlib.redirect_stdout(printed):
            loading.main()
        return printed.getvalue()

    def test_files_that_were_read_are_in_the_page_cache(self):
        files = loading.weight_files(self.model)
        self.assertEqual([path.name for path in files], ["x.safetensors", "y.safetensors"])
        loading.drop(files)
        self.assertGreater(loading.read_files(files, 2), 0)
        self.assertEqual(loading.resident_share(files), 1)

    def test_the_rates_of_a_run(self):
        dither = self.dither(f"""
assert sys.argv[1] == "bench" and "--threads" in sys.argv
with open(sys.argv[sys.argv.index("--json") + 1], "w") as file:
    json.dump({{"results": [{RESULT}]}}, file)""")
        table = self.run_main("--dither", dither, "--runs", "3", "--more", "--threads 2", "--json",
                              os.fspath(self.folder / "out.json"))
        document = json.loads((self.folder / "out.json").read_text())
        self.assertEqual(len(document["rounds"]), 3)
        records = {record["what"]: record for record in document["rounds"][0]}
        self.assertEqual(list(records), ["disk", "page cache", "dither, from disk",
                                         "dither, from page cache"])
        self.assertEqual(records["disk"]["bytes"], 3_000_018)
        self.assertEqual(records["page cache"]["resident"], 1)
        # 3 MB in 1.2 s without the 0.2 s of the device.
        self.assertEqual(records["dither, from disk"]["gb_per_s"], 0.003)
        self.assertIn("| dither, from page cache | 0.003 | 1.00 | 0.00 |", table)
        self.assertNotIn("PCIe", table)

    def test_medians_are_of_the_rounds(self):
        rounds = [[loading.rate_record("disk", 2_000_000_000, seconds, 0.5)] for seconds in (1, 4, 2)]
        self.assertIn("| disk | 2.000 | 2.00 | 1.00 | 50 % |", loading.table(rounds))

    def test_what_cannot_be_measured(self):
        with self.assertRaisesRegex(SystemExit, "no .safetensors"):
            loading.weight_files(self.folder / "nothing")
        with self.assertRaisesRegex(SystemExit, "exit 3"):
            self.run_main("--dither", self.dither("sys.exit(3)"))


if __name__ == "__main__":
    unittest.main()

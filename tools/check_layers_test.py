"""Tests of check_layers.py: python3 -m unittest discover -s tools -p '*_test.py'"""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import check_layers

LAYERS = """
base:                  # comment
tensor: base
ops: base tensor
backends/cpu: base tensor ops
top: @ops ops backends/cpu
<dnnl*> <omp.h>: backends/cpu
<fmt/*>: *
<dither/*>: top
"""


class ParseLayers(unittest.TestCase):
    def test_expands_line_references(self):
        layers = check_layers.parse_layers(LAYERS)
        self.assertEqual(layers.rooms["top"], {"base", "tensor", "ops", "backends/cpu"})
        self.assertEqual(layers.headers["dnnl*"], {"backends/cpu"})

    def test_refuses(self):
        table = {
            "a: b\nb:": "'b' is not",  # a room below
            "a: a": "'a' is not",  # itself
            "a:\na:": "twice",
            "a:\n<x.h>: b": "unknown room 'b'",
            "a:\n<x.h>: a\n<x.h>: a": "twice",
            "a": "expected 'room: rooms'",
            "A b:": "not a room's name",
        }
        for text, reason in table.items():
            with self.subTest(text), self.assertRaisesRegex(check_layers.LayersError, reason):
                check_layers.parse_layers(text)


class CheckTree(unittest.TestCase):
    def violations(self, files: dict[str, str]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            known = {"src/base/error.h": "", "src/ops/ops.h": "", "src/backends/cpu/gemm.h": ""}
            for name, content in {**known, **files}.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content, encoding="utf-8")
            checker = check_layers.Checker(root, check_layers.parse_layers(LAYERS))
            checker.run()
            return checker.violations

    def test_accepts(self):
        table = {
            "src/ops/x.cc": '#include <vector>\n#include <sys/mman.h>\n#include "base/error.h"\n',
            "src/ops/x_test.cc": '#include "ops/ops.h"\n#include <fmt/format.h>\n',
            "src/backends/cpu/x.cc": '#include <dnnl.hpp>\n#  include <omp.h>\n',
            "src/top/x.cc": '#include "backends/cpu/gemm.h"\n#include <dither/x.h>\n',
            "src/base/x.cc": '// #include <dnnl.hpp>\n/*\n#include <dnnl.hpp>\n*/\n',
            "tests/golden/x_test.cc": '#include "backends/cpu/gemm.h"\n#include <dnnl.hpp>\n',
            "tests/e2e/x_test.cc": '#include "e2e/x_test.cc"\n',
            "include/dither/x.h": "#include <string>\n#include <dither/y.h>\n",
        }
        for name, content in table.items():
            with self.subTest(name):
                self.assertEqual(self.violations({name: content}), [])

    def test_refuses(self):
        table = [
            ("src/base/x.cc", '\n#include "ops/ops.h"', "src/base/x.cc:2: 'base' may not include"),
            ("src/ops/x_test.cc", '#include "backends/cpu/gemm.h"', "may not include 'backends"),
            ("src/ops/x.cc", "#include <dnnl.hpp>", "only backends/cpu may"),
            ("src/ops/x.cc", "#include <boost/any.hpp>", "neither standard nor listed"),
            ("src/ops/x.cc", '#include "x.h"', "write the path from src/"),
            ("src/ops/x.cc", '#include "base/none.h"', "no such file: src/base/none.h"),
            ("src/attic/x.cc", "", "not in a room"),
            ("src/ops/x.cc", "#include HEADER", "neither standard nor listed"),
            ("include/dither/x.h", '#include "base/error.h"', "only standard headers"),
            ("examples/x.cc", "#include <fmt/format.h>", "only standard headers"),
            ("tests/golden/x.cc", "#include <boost/any.hpp>", "neither standard nor listed"),
        ]
        for name, content, reason in table:
            with self.subTest(name=name, content=content):
                violations = self.violations({name: content})
                self.assertEqual(len(violations), 1, violations)
                self.assertIn(reason, violations[0])


class Main(unittest.TestCase):
    def test_this_repository_is_clean(self):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = check_layers.main([])
        self.assertEqual(status, 0, output.getvalue())


if __name__ == "__main__":
    unittest.main()

"""Help, version, completion and misspelt command lines."""

import json
import os
import shutil
import subprocess

from command import CommandTest, main

COMMANDS = ["generate", "inspect", "convert", "quantize", "compare", "bench", "completion"]


class Help(CommandTest):
    def test_every_help_has_examples(self):
        for arguments in [["--help"], *([command, "--help"] for command in COMMANDS)]:
            with self.subTest(arguments):
                text = self.succeed(*arguments)
                self.assertIn("Examples:\n  dither ", text)

    def test_the_lines_fit_a_terminal(self):
        for command in COMMANDS:
            for line in self.succeed(command, "--help").splitlines():
                self.assertLessEqual(len(line), 132, line)

    def test_version_names_the_build(self):
        self.assertRegex(self.succeed("--version"), r"^dither \d+\.\d+\.\d+ \(")


class Threads(CommandTest):
    def test_waiting_workers_stop_spinning_soon(self):
        """But for a user who says otherwise."""
        plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
        for chosen, spins in [({}, "5000"), ({"GOMP_SPINCOUNT": "77"}, "77"),
                              ({"OMP_WAIT_POLICY": "passive"}, "0")]:
            with self.subTest(chosen):
                done = self.run_dither("--version",
                                       env={**plain, **chosen, "OMP_DISPLAY_ENV": "verbose"})
                shown = [line.split("'")[1] for line in done.stderr.decode().splitlines()
                         if "GOMP_SPINCOUNT" in line]
                if not shown:
                    self.skipTest("not GNU's OpenMP")
                self.assertEqual(shown[-1], spins)


class Misspelt(CommandTest):
    def test_one_line_that_offers_the_nearest(self):
        for arguments, says in [
            (["generat", "x"], ["'generat'", "did you mean 'generate'"]),
            (["--versio"], ["did you mean '--version'"]),
            ([], ["dither generate", "--help"]),
            (["generate"], ["dither generate"]),
            (["generate", "x", "--heigth", "128"], ["--heigth", "did you mean '--height'"]),
            (["generate", "x", "--num-infernce-steps=4"], ["did you mean '--num-inference-steps'"]),
            (["generate", "x", "--stpes", "5"], ["did you mean '--num-inference-steps'"]),
            (["generate", "a", "red", "apple"], ["'red'", "quote"]),
            (["generate", "x", "--seed"], ["--seed"]),
            (["generate", "x", "--seed", "-1"], ["--seed", "'-1'"]),
            (["generate", "x", "--seed", "1e3"], ["--seed", "'1e3'", "whole number"]),
            (["generate", "x", "--seed", str(2**64)], ["--seed", "whole number"]),
            (["generate", "x", "--width", "ten"], ["--width", "'ten'", "whole number"]),
            (["generate", "x", "--guidance-scale", "nan"], ["--guidance-scale", "'nan'"]),
            (["generate", "x", "--dtype", "bf61"], ["--dtype", "auto, bf16, f32", "mean 'bf16'"]),
            (["generate", "x", "--vae-tiling=maybe"], ["--vae-tiling", "'maybe'", "true or false"]),
            (["inspect", ".", "--json=2"], ["--json", "'2'", "true or false"]),
            (["generate", "x", "--device", "gpu"], ["--device", "auto, cpu, cuda"]),
            (["generate", "x", "--noise", "numpy"], ["--noise", "torch-cpu"]),
            (["generate", "x", "--prompt-file", "y"], ["--prompt-file"]),
            (["generate", "x", "-o", "a.jpg"], ["a.jpg", ".png"]),
            (["generate", "x", "-o", "a.png", "--output-path", "b"], ["--output-path"]),
            (["bench", "--dtype", "bf16,f23"], ["--dtype", "'f23'", "mean 'f32'"]),
            (["completion", "basch"], ["'basch'", "mean 'bash'"]),
        ]:
            with self.subTest(arguments):
                self.fail_with(2, *arguments, says=says)
        self.assert_no_file()


class Completion(CommandTest):
    def test_scripts_know_every_command(self):
        for shell in ["bash", "zsh", "fish"]:
            script = self.succeed("completion", shell)
            for word in [*COMMANDS, "num-inference-steps"]:
                self.assertIn(word, script)
            checker = shutil.which(shell)
            if checker:
                path = self.folder / shell
                path.write_text(script)
                subprocess.run([checker, "-n", path], check=True)

    def test_bash_completes(self):
        script = self.succeed("completion", "bash")
        for words, expected in [(["dither", "gen"], ["generate"]),
                                (["dither", "generate", "--wid"], ["--width"])]:
            shell = script + f"""
COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _dither
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
            done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
            self.assertEqual(done.stdout.split(), expected)


class Bench(CommandTest):
    def test_table_and_json(self):
        text = self.succeed("bench", "--dtype", "bf16,f32", "--runs", "2", "--warmup", "0",
                            "--num-inference-steps", "2", "--json", "b.json")
        for word in ["bf16", "f32", "prompt to PNG", "DenoisingStage", "GFLOP/s", "%", "MiB"]:
            self.assertIn(word, text)
        results = json.loads((self.folder / "b.json").read_text())["results"]
        self.assertEqual([r["dtype"] for r in results], ["bf16", "f32"])
        for result in results:
            self.assertEqual(len(result["samples"]), 2)
            self.assertEqual(result["num_inference_steps"], 2)
            self.assertGreater(result["step_gflop"], 0.01)
            self.assertGreater(result["peak_gflop_per_second"], 1)
        self.assertEqual(results[0]["step_gflop"], results[1]["step_gflop"])


if __name__ == "__main__":
    main()

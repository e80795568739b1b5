"""Whatever is wrong: one line that says what would be right, an exit status, no partial file."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest

from command import (DITHER, FAST, MODEL, ROOT, CommandTest, main, read_safetensors,
                     write_safetensors)

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


class Requests(CommandTest):
    def test_impossible_values(self):
        for arguments, says in [
            (["--width", "100"], ["width 100", "96", "112"]),
            (["--height", "1"], ["height 1"]),
            (["--width", "0"], ["width 0"]),
            (["--width", "2000000000"], ["width"]),
            (["--num-inference-steps", "0"], ["num-inference-steps 0", "1 to"]),
            (["--num-inference-steps", "1000000"], ["num-inference-steps 1000000", "1 to"]),
            (["--max-sequence-length", "0"], ["max-sequence-length 0"]),
            (["--guidance-scale", "-1"], ["guidance-scale -1"]),
            (["--num-outputs-per-prompt", "0"], ["num-outputs-per-prompt"]),
        ]:
            with self.subTest(arguments):
                self.fail_with(2, "generate", "apple", *arguments, says=says)
        self.assert_no_file()

    def test_text_that_is_not_utf8(self):
        for prompt in [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"]:
            with self.subTest(prompt):
                self.fail_with(2, "generate", b"--prompt=" + prompt, says=["UTF-8"])
        (self.folder / "p.txt").write_bytes(b"good\nb\xffd\n")
        self.fail_with(2, "generate", "--prompt-file", "p.txt", says=["UTF-8"])
        self.fail_with(2, "generate", "a", "--negative-prompt", b"\xff", says=["UTF-8"])
        self.assertEqual(self.files(), ["p.txt"])

    def test_prompts_with_a_nul(self):
        (self.folder / "p.txt").write_bytes(b"a\0b\n")
        self.fail_with(2, "generate", "--prompt-file", "p.txt", says=["NUL"])

    def test_prompt_files(self):
        (self.folder / "blank.txt").write_text("\n \n")
        self.fail_with(2, "generate", "--prompt-file", "blank.txt", says=["blank.txt"])
        self.fail_with(2, "generate", "--prompt-file", "-", says=["no prompts"])
        self.fail_with(1, "generate", "--prompt-file", "none.txt", says=["none.txt"])
        self.fail_with(1, "generate", "--prompt-file", ".", says=["--prompt-file"])

    def test_pictures_to_repeat(self):
        (self.folder / "text.png").write_text("no picture")
        self.fail_with(1, "generate", "--from", "text.png", says=["text.png"])
        self.fail_with(1, "generate", "--from", "none.png", says=["none.png"])
        self.succeed("generate", "apple", "-o", "a.png", *FAST)
        whole = (self.folder / "a.png").read_bytes()
        (self.folder / "cut.png").write_bytes(whole[:100])
        self.fail_with(1, "generate", "--from", "cut.png", says=["cut.png"])


class Models(CommandTest):
    def refuse(self, model, *says):
        self.fail_with(1, "generate", "apple", "--model-path", model, says=says)
        self.assert_no_file()

    def test_there_is_none(self):
        self.refuse("/no/such/model", "/no/such/model")
        self.refuse(self.folder, "model_index.json")
        done = self.run_dither("generate", "apple", env={**os.environ, "DITHER_MODEL": "/none"})
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"/none", done.stderr)

    def test_components_on_the_command_line(self):
        for says, path in [("/none", "/none"), (str(MODEL), MODEL)]:
            self.fail_with(1, "generate", "x", "--transformer-path", path, says=[says])
        self.fail_with(1, "generate", "x", "--vae-path", MODEL / "transformer", says=["transformer"])
        for option in ["--transformer-2-path", "--component-paths.transformer_2"]:
            self.fail_with(1, "generate", "x", option, MODEL / "transformer",
                           says=["transformer_2", "text_encoder_2"])

    def test_fp8_attention_needs_a_gpu(self):
        self.fail_with(1, "generate", "x", "--device", "cpu", "--attention-precision", "fp8",
                       says=["attention precision fp8", "--device cuda"])
        self.fail_with(2, "generate", "x", "--attention-precision", "schedule:middle=1",
                       says=["schedule:middle=1", "schedule:first=N,last=M"])

    def test_sizes_of_memory(self):
        for size in ("16", "GiB", "-1GiB", "1e3GiB", "16 GiB", "1000000GiB", ""):
            self.fail_with(2, "generate", "x", "--max-vram=" + size, says=["--max-vram", size])

    def test_weights_in_memory(self):
        for option, value, values in [("--weight-only-fp8", "maybe", ["expand", "keep"]),
                                      ("--nvfp4-as", "int8", ["bf16", "fp8"]),
                                      ("--text-encoder-precision", "f32", ["bf16", "fp8"]),
                                      ("--vae-precision", "f16", ["auto", "bf16", "f32"])]:
            self.fail_with(2, "generate", "x", option, value, says=[option, value, *values])
            side = option.replace("--", "--candidate-", 1)
            self.fail_with(2, "compare", "x", side, value, says=[side, value, *values])

    def test_missing_parts(self):
        model = self.copy_model()
        for part in [TRANSFORMER, "vae/config.json", "tokenizer/tokenizer.json", "text_encoder_2",
                     "scheduler/scheduler_config.json", "model_index.json"]:
            with self.subTest(part):
                hidden = model / part
                aside = self.folder.parent / (self.folder.name + "-aside")
                shutil.move(hidden, aside)
                if part.startswith("tokenizer/"):  # vocab.json and merges.txt do as well
                    (model / "tokenizer/vocab.json").rename(model / "tokenizer/v")
                self.refuse(model, part.split("/")[0])
                if part.startswith("tokenizer/"):
                    (model / "tokenizer/v").rename(model / "tokenizer/vocab.json")
                shutil.move(aside, hidden)
        self.succeed("generate", "apple", "--model-path", model, *FAST)

    def test_damaged_checkpoints(self):
        model = self.copy_model()
        path = model / TRANSFORMER
        whole = path.read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        damages = {
            "empty": b"",
            "half a length": whole[:4],
            "cut in the header": whole[:1000],
            "cut in the data": whole[:-1000],
            "a byte too many": whole + b"x",
            "a header of 100 MB": struct.pack("<Q", 100_000_001) + whole[8:],
            "a header of 2^63": struct.pack("<Q", 1 << 63) + whole[8:],
            "not JSON": whole[:8] + b"#" * length + whole[8 + length:],
            "nested JSON": struct.pack("<Q", 100_000) + b"[" * 100_000,
        }
        for name, content in damages.items():
            with self.subTest(name):
                path.write_bytes(content)
                self.refuse(model, TRANSFORMER)

    def test_lying_headers(self):
        model = self.copy_model()
        path = model / TRANSFORMER
        header, data = read_safetensors(path)
        name = "x_embedder.weight"
        begin, end = header[name]["data_offsets"]

        def lie(**changes):
            return {**header, name: {**header[name], **changes}}

        lies = {
            "overlap": lie(data_offsets=[begin - 2, end - 2] if begin else [2, end + 2]),
            "outside": lie(data_offsets=[len(data), len(data) + end - begin]),
            "backwards": lie(data_offsets=[end, begin]),
            "negative": lie(data_offsets=[-2, end]),
            "shape": lie(shape=[1] + header[name]["shape"]),
            "huge shape": lie(shape=[1 << 40, 1 << 40]),
            "dtype": lie(dtype="I16"),
            "unknown dtype": lie(dtype="F7"),
            "no such tensor": {n if n != name else "other": t for n, t in header.items()},
        }
        for lie_name, lying in lies.items():
            with self.subTest(lie_name):
                write_safetensors(path, lying, data)
                self.refuse(model, "x_embedder")  # the tensor, or the layer that it belongs to

    def test_damaged_configs(self):
        model = self.copy_model()
        for part in ["model_index.json", "transformer/config.json", "vae/config.json",
                     "text_encoder/config.json", "scheduler/scheduler_config.json", "dither.json",
                     "tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json"]:
            path = model / part
            whole = path.read_bytes()
            for content in [b"", b"{", b"[]", b"\xff"]:
                with self.subTest(part=part, content=content):
                    path.write_bytes(content)
                    done = self.run_dither("generate", "apple", "--model-path", model, *FAST)
                    if done.returncode == 0:  # this tokenizer file has a substitute
                        self.assertTrue(part.startswith("tokenizer"), part)
                    else:
                        self.assertEqual(done.returncode, 1)
                        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
                        self.assertIn(part.split("/")[0].encode(), done.stderr)
            path.write_bytes(whole)

    def test_unknown_pipeline_class(self):
        model = self.copy_model()
        index = json.loads((model / "model_index.json").read_text())
        (model / "model_index.json").write_text(json.dumps({**index, "_class_name": "CatPipeline"}))
        self.refuse(model, "CatPipeline", "FluxPipeline")


class Outputs(CommandTest):
    def test_folders_that_do_not_exist_or_are_none(self):
        self.fail_with(1, "generate", "apple", "-o", "none/apple.png", says=["none/apple.png"])
        (self.folder / "file").write_text("x")
        self.fail_with(1, "generate", "apple", "--output-path", "file", says=["file"])
        self.fail_with(1, "generate", "apple", "-o", "file/apple.png", says=["file/apple.png"])
        self.fail_with(1, "generate", "a", "--perf-dump-path", "none/p.json", says=["none/p.json"])
        self.fail_with(1, "generate", "a", "--save-trajectory", "none/t", says=["none/t"])
        self.assertEqual(self.files(), ["file"])

    def test_devices_are_not_replaced(self):
        (self.folder / "null.png").symlink_to("/dev/null")
        self.fail_with(1, "generate", "apple", "-o", "null.png", says=["null.png"])
        self.assertTrue((self.folder / "null.png").is_symlink())

    def test_checked_before_any_work(self):
        """Of the model only the index is read, which says whether it makes pictures or videos."""
        model = self.folder / "model"
        model.mkdir()
        (model / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
        begin = time.monotonic()
        self.fail_with(1, "generate", "apple", "-o", "none/a.png", "--model-path", model,
                       says=["none/a.png"])
        self.assertLess(time.monotonic() - begin, 5)

    def test_requests_are_checked_before_weights_are_read(self):
        """In folders that have none."""
        for command in ["generate", "compare", "bench"]:
            for model, options, says in [
                ("flux1-dev", ["--height", "17"], ["height 17"]),
                ("flux2-klein-4b", ["--width", "24"], ["width 24"]),
                ("wan2.2-t2v-a14b", ["--num-frames", "6"], ["num-frames 6"]),
                ("wan2.2-i2v-a14b", [], ["image-path: missing"]),
            ]:
                with self.subTest(f"{command} {model}"):
                    prompt = [] if command == "bench" else ["apple"]
                    self.fail_with(2, command, *prompt, "--model-path",
                                   ROOT / "models/configs" / model, *options, says=says)
        self.assert_no_file()

    @unittest.skipIf(os.geteuid() == 0 and not shutil.which("setpriv"), "root may write anywhere")
    def test_a_folder_without_permission(self):
        locked = self.folder / "locked"
        locked.mkdir(mode=0o555)
        command = [DITHER, "generate", "apple", "--output-path", str(locked)]
        if os.geteuid() == 0:
            os.chmod(self.folder, 0o755)
            command = ["setpriv", "--reuid=65534", "--clear-groups", *command]
        done = subprocess.run(command, capture_output=True, cwd="/", timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, rb"^dither: error: .*locked.*\n$")
        self.assertEqual(list(locked.iterdir()), [])

    def test_a_full_disk(self):
        """A file system of 8 KiB, in a mount namespace of the test's own."""
        script = ('mount -t tmpfs -o size=8k none full && "$0" generate apple -o full/a.png '
                  '--num-inference-steps 2; status=$?; ls -A full; exit $status')
        (self.folder / "full").mkdir()
        done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script, DITHER],
                              capture_output=True, cwd=self.folder, timeout=60)
        if b"unshare" in done.stderr or b"mount:" in done.stderr:
            self.skipTest("no namespaces here")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr.splitlines()[-1], rb"^dither: error: full/a.png: .*space")
        self.assertEqual(done.stdout, b"")

    def test_a_disk_too_small_for_a_checkpoint(self):
        """Said before the work, and the old result stays."""
        script = ('mount -t tmpfs -o size=15m none full && '
                  '"$0" quantize --output-dir full/old --n-steps 1 --quiet || exit 9; '
                  'sum=$(cat full/old/transformer/* | md5sum); '
                  'for option in "--output-dir full/new" "--output-dir full/old --overwrite"; do '
                  '"$0" quantize $option --n-steps 1 --quiet && exit 8; done; '
                  '[ "$(ls full)" = old ] && [ "$(ls full/old)" = transformer ] && '
                  '[ "$sum" = "$(cat full/old/transformer/* | md5sum)" ]')
        (self.folder / "full").mkdir()
        done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script, DITHER],
                              capture_output=True, cwd=self.folder, timeout=120)
        if b"unshare" in done.stderr or b"mount:" in done.stderr:
            self.skipTest("no namespaces here")
        self.assertEqual(done.returncode, 0, done.stderr)
        for line in done.stderr.splitlines():
            self.assertRegex(line, rb"^dither: error: .*full.*: the result takes [0-9]+ bytes, [0-9]+ are free$")

    def test_a_limit_on_file_sizes(self):
        done = self.run_dither("generate", "apple", "-o", "a.png", "--quiet", *FAST,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                     (1000, 1000)))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rb"^dither: error: a.png: .*\n$")
        self.assert_no_file()

    def test_memory_that_is_not_there(self):
        limit = 120 << 20
        done = self.run_dither("generate", "apple", "-o", "a.png", "--width", "4096", "--height",
                               "4096", "--quiet", *FAST, preexec_fn=lambda: resource.setrlimit(
                                   resource.RLIMIT_AS, (limit, limit)))
        self.assertNotEqual(done.returncode, 0)
        self.assert_no_file()


class Interrupts(CommandTest):
    def interrupt(self, number):
        process = subprocess.Popen([DITHER, "generate", "apple", "--num-inference-steps", "1000",
                                    "-o", "a.png"], cwd=self.folder, stderr=subprocess.PIPE)
        time.sleep(2)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
        self.assertRegex(message.splitlines()[-1], rb"^dither: error: .*stopped")
        self.assert_no_file()
        return process.returncode

    def test_kill_leaves_the_old_checkpoint(self):
        """At any moment; what the killed run leaves, the next one deletes."""
        micro = ROOT / "tests/golden/modelopt/flux1-micro"
        commands = {
            "fp8/transformer": ["quantize", "--output-dir", "fp8", "--n-steps", "1", "--calib-prompts",
                                "prompts.txt"],
            "converted": ["convert", "--modelopt-hf-dir", micro / "hf", "--modelopt-backbone-ckpt",
                          micro, "--base-transformer-dir", micro / "base", "--output-dir",
                          "converted"],
        }
        (self.folder / "prompts.txt").write_text("apple\n")
        for result, command in commands.items():
            folder = self.folder / result
            self.succeed(*command, "--quiet")
            begin = time.monotonic()
            self.succeed(*command, "--quiet", "--overwrite")
            duration = time.monotonic() - begin
            whole = {path.name: path.read_bytes() for path in folder.iterdir()}
            for i in range(12):
                process = subprocess.Popen([DITHER, *map(str, command), "--quiet", "--overwrite"],
                                           cwd=self.folder, stdout=subprocess.DEVNULL)
                time.sleep(duration * (i + 1) / 12)
                process.kill()
                process.wait()
                self.assertEqual(whole, {path.name: path.read_bytes() for path in folder.iterdir()})
            self.succeed(*command, "--quiet", "--overwrite")
            self.assertEqual([path.name for path in folder.parent.glob("*.tmp-*")], [])

    def test_ctrl_c_leaves_nothing(self):
        self.assertEqual(self.interrupt(signal.SIGINT), 130)

    def test_termination_leaves_nothing(self):
        self.assertEqual(self.interrupt(signal.SIGTERM), 143)


if __name__ == "__main__":
    main()

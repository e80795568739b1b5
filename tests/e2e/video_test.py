"""Videos that dither writes, as other programs see them: ffprobe and Chromium where they are there."""

import json
import os
import re
import resource
import shutil
import subprocess
import unittest

from command import DITHER, ROOT, CommandTest, main

MICRO = ROOT / "tests" / "golden" / "wan" / "pipeline"
FAST = ["--model-path", MICRO, "--num-inference-steps", "2", "--quiet"]
FFPROBE = shutil.which("ffprobe")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = """<!DOCTYPE html><meta charset="utf-8"><video muted preload="auto" src="fox.mp4"></video>
<p>nothing</p><script>
const video = document.querySelector("video"), said = document.querySelector("p");
video.onloadeddata = () => {
  said.textContent = `${video.videoWidth}x${video.videoHeight}, ${video.duration} s`;
};
video.onerror = () => { said.textContent = `error ${video.error.code}: ${video.error.message}`; };
</script>"""


class Videos(CommandTest):
    def generate(self, *arguments):
        return self.succeed("generate", "a fox & <b>", *FAST, *arguments)

    @unittest.skipUnless(FFPROBE, "NO ffprobe HERE (apt install ffmpeg): MP4 files were not checked")
    def test_ffprobe_agrees(self):
        for fps in (8, 24):
            self.generate("-o", "fox.mp4", "--fps", str(fps))
            done = subprocess.run(
                [FFPROBE, "-v", "warning", "-count_frames", "-show_streams", "-show_format",
                 "-of", "json", "fox.mp4"],
                cwd=self.folder, capture_output=True, timeout=60, check=True)
            self.assertEqual(done.stderr, b"")
            probed = json.loads(done.stdout)
            (stream,) = probed["streams"]
            expected = {"codec_name": "h264", "profile": "High", "codec_tag_string": "avc1",
                        "pix_fmt": "yuv420p", "width": 48, "height": 32, "has_b_frames": 0,
                        "color_range": "tv", "color_space": "bt709", "color_transfer": "bt709",
                        "color_primaries": "bt709", "sample_aspect_ratio": "1:1",
                        "field_order": "progressive", "r_frame_rate": f"{fps}/1",
                        "avg_frame_rate": f"{fps}/1", "nb_frames": "9", "nb_read_frames": "9"}
            self.assertEqual({key: stream.get(key) for key in expected}, expected)
            self.assertAlmostEqual(float(stream["duration"]), 9 / fps, delta=1e-6)
            tags = probed["format"]["tags"]
            self.assertEqual(json.loads(tags["dither"])["prompt"], "a fox & <b>")
            self.assertTrue(tags["parameters"].startswith("a fox & <b>\nSteps: 2, "))

    @unittest.skipUnless(CHROMIUM, "NO chromium HERE: no browser has played an MP4")
    def test_chromium_plays(self):
        self.generate("-o", "fox.mp4", "--fps", "8")
        (self.folder / "page.html").write_text(PAGE)
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000",
             f"--user-data-dir={self.folder / 'profile'}", "--dump-dom",
             f"file://{self.folder}/page.html"],
            capture_output=True, timeout=120)
        said = re.search(rb"<p>(.*?)</p>", done.stdout)
        self.assertIsNotNone(said, done.stderr)
        self.assertEqual(said.group(1), b"48x32, 1.125 s")

    def test_videos_carry_their_parameters(self):
        for name in ("fox.mp4", "fox.webp", "fox/"):
            with self.subTest(name):
                self.generate("-o", name, "--seed", "5")
                document = json.loads(self.succeed("inspect", name, "--json"))
                self.assertEqual((document["kind"], document["frames"]), ("video", 9))
                self.assertEqual((document["width"], document["height"]), (48, 32))
                self.assertEqual(document["parameters"]["seed"], "5")
                again = name.replace("fox", "again")
                self.succeed("generate", "--from", name, "-o", again, "--quiet")
                self.assertEqual(self.succeed("compare", "--videos", name, again),
                                 "frame0_psnr_db=inf\nframe0_mae=0.0000\nall_frames_psnr_db=inf\n")
        self.assertEqual((self.folder / "fox.mp4").read_bytes(),
                         (self.folder / "again.mp4").read_bytes())
        self.assertIn("fox.mp4  video, 48x32, 9 frames at 8 a second",
                      self.succeed("inspect", "fox.mp4"))

    def test_compare_of_files(self):
        self.generate("-o", "exact/")
        self.generate("-o", "fox.mp4")
        self.generate("-o", "short.webp", "--num-frames", "5")
        printed = self.succeed("compare", "--videos", "exact/", "fox.mp4", "--html", "v.html",
                               "--output-json", "v.json", "--fail-below", "psnr=15")
        self.assertRegex(printed, r"\nall_frames_psnr_db=\d\d\.\d+\n$")
        document = json.loads((self.folder / "v.json").read_text())
        self.assertEqual(document["output_metrics"]["num_frames"], 9)
        self.assertIsNone(document["trajectory_metrics"])
        page = (self.folder / "v.html").read_text()
        for text in ["PSNR of every frame", "first frame", "middle frame", "last frame"]:
            self.assertIn(text, page)
        self.assertEqual(page.count("<img"), 9)
        self.fail_with(2, "compare", "--videos", "exact/", "short.webp",
                       says=["exact/ has 9 frames of 48x32, short.webp has 5"])
        for limit, status, says in [("cosine=1", 2, b"--fail-below cosine: videos"),
                                    ("psnr=99", 1, b"psnr is ")]:
            done = self.run_dither("compare", "--videos", "exact/", "fox.mp4", "--fail-below", limit)
            self.assertEqual(done.returncode, status)
            self.assertIn(says, done.stderr)
        (self.folder / "text.mp4").write_text("not a video")
        self.fail_with(1, "compare", "--videos", "exact/", "text.mp4", says=["text.mp4: not a video"])

    def test_a_folder_with_other_files_stays(self):
        (self.folder / "mine").mkdir()
        (self.folder / "mine" / "thesis.pdf").write_text("years of work")
        self.fail_with(2, "generate", "fox", *FAST, "-o", "mine/", says=["mine", "thesis.pdf"])
        self.assertEqual(self.files(), ["mine/thesis.pdf"])
        for _ in range(2):
            self.generate("-o", "frames/")
        self.assertEqual(len(list((self.folder / "frames").iterdir())), 9)

    def test_a_full_disk_while_encoding(self):
        """A file system of 8 KiB, in a mount namespace of the test's own; what was there stays."""
        script = ('mount -t tmpfs -o size=8k none full && echo old >"full/$1" && shift && '
                  '"$0" generate apple "$@"; status=$?; find full -type f; exit $status')
        (self.folder / "full").mkdir()
        for name, output in [("a.mp4", "a.mp4"), ("a.webp", "a.webp"), ("other", "frames/")]:
            with self.subTest(name):
                done = subprocess.run(
                    ["unshare", "--map-root-user", "--mount", "sh", "-c", script, DITHER, name,
                     *map(os.fspath, FAST), "-o", f"full/{output}"],
                    capture_output=True, cwd=self.folder, timeout=60)
                if b"unshare" in done.stderr or b"mount:" in done.stderr:
                    self.skipTest("no namespaces here")
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stderr, rb"^dither: error: full/[^\n]*: .*space.*\n$")
                self.assertEqual(done.stdout.decode(), f"full/{name}\n")

    def test_a_limit_on_file_sizes(self):
        for name in ("a.mp4", "a.webp", "frames/"):
            done = self.run_dither("generate", "apple", *FAST, "-o", name,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                         (1000, 1000)))
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rb"^dither: error: [^\n]*(a\.|frames)[^\n]*\n$")
            self.assert_no_file()


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Draws a few pictures with the demo model into out/, quantizes it to FP8 and compares, times it,
# and says what to try next.
set -euo pipefail
cd "$(dirname "$0")/.."

dither=build/release/bin/dither
out=out
mkdir -p "$out"

# seconds COMMAND... runs it and prints the wall-clock time it took.
seconds() {
  local start=${EPOCHREALTIME/[.,]/}
  "$@" >"$out/.paths"
  local end=${EPOCHREALTIME/[.,]/}
  awk -v us=$((end - start)) 'BEGIN { printf "%.2f", us / 1e6 }'
}

cat >"$out/prompts.txt" <<'END'
a red apple
cat face with tears of joy
rocket
unicorn
owl
birthday cake
ghost on a purple background
hamburger
END

echo "Drawing with models/emoji-flux, 128 x 128, 20 steps, bfloat16 ..."
sheet=$(seconds "$dither" generate --prompt-file "$out/prompts.txt" --dtype bf16 --seed 1 --grid 4 \
  --output-path "$out" --output-file-name demo)
echo "... and one picture, from a cold start, in bfloat16 and float32 ..."
bf16=$(seconds "$dither" generate "a red apple" --dtype bf16 --seed 1 -o "$out/apple-bf16.png" --quiet)
f32=$(seconds "$dither" generate "a red apple" --dtype f32 --seed 1 -o "$out/apple-f32.png" --quiet)

echo "... and the transformer in FP8: calibrating, drawing, comparing with bfloat16 ..."
quantize=$(seconds "$dither" quantize --dtype bf16 --output-dir "$out/fp8" --overwrite \
  --json "$out/fp8-amax.json" --quiet)
fp8=$(seconds "$dither" generate "a red apple" --dtype bf16 --seed 1 --quiet \
  --transformer-path "$out/fp8/transformer" --strict-precision -o "$out/apple-fp8.png")
"$dither" compare "a red apple" --dtype bf16 --seed 1 --quiet --fail-below cosine=0.99 \
  --candidate-transformer-path "$out/fp8/transformer" \
  --html "$out/compare.html" --output-json "$out/compare.json" >"$out/.compare"

# compared NAME prints a number that dither compare printed.
compared() { sed -n "s/^$1=//p" "$out/.compare"; }

cosine=$(compared trajectory_cosine)
psnr=$(compared frame0_psnr_db)
bf16_mb=$(compared reference_transformer_weights_mb)
fp8_mb=$(compared candidate_transformer_weights_mb)
rm -f "$out/.paths" "$out/.compare"

cat <<END

Pictures, in $PWD/$out
  demo-grid.png                    8 prompts on one sheet, all in ${sheet} s
  demo-0.png ... demo-7.png        the same one by one
  apple-bf16.png                   process start to PNG on disk: ${bf16} s
  apple-f32.png                    the same seed in float32: ${f32} s
  apple-fp8.png                    the same seed in FP8: ${fp8} s

FP8 against bfloat16, the same prompt and seed
  latents after the last step      cosine ${cosine}
  picture                          PSNR ${psnr} dB
  transformer's linear layers      ${fp8_mb} MiB in memory, bfloat16 ${bf16_mb} MiB
  calibrated and written in        ${quantize} s, to $out/fp8/transformer
  report for the browser           $PWD/$out/compare.html

Next
  $dither generate "a blue apple" --seed 7
  $dither inspect $out/apple-bf16.png
  $dither generate --from $out/apple-bf16.png --seed 2 -o $out/other.png
  $dither compare "owl" --candidate-transformer-path $out/fp8/transformer --html $out/owl.html
  $dither bench --dtype bf16,f32
  $dither generate --help
END

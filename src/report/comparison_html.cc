#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/version.h"
#include "report/comparison.h"
#include "report/html.h"

namespace dither {
namespace {

using Rows = std::vector<std::vector<std::string>>;

constexpr int kGain = 8;  // of the picture that shows the difference

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>dither compare</title>
<style>
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
figure { display: inline-block; margin: 0 1rem 1rem 0; }
img { width: 16rem; image-rendering: pixelated; display: block; }
figcaption, .axis { font-size: .8rem; opacity: .7; }
svg { width: 20rem; max-width: 100%; }
svg text { fill: currentColor; font-size: 13px; }
polyline { fill: none; stroke: #2f7fd0; stroke-width: 2; }
.wide { overflow: auto; max-height: 32rem; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .15rem .7rem; text-align: left; border-bottom: 1px solid #8884; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
</style></head><body>
)";

std::string number(double value) { return fmt::format("{:.6g}", value); }

std::string heading(std::string_view text) {
  return fmt::format("<h2>{}</h2>\n", html::escape(text));
}

std::string introduction(const Comparison& comparison) {
  Rows rows = {{"", "reference", "candidate"}};
  const auto& reference = comparison.reference.options;
  const auto& candidate = comparison.candidate.options;
  const auto value_of = [](const auto& options, const std::string& name) {
    const auto found = std::ranges::find(options, name, [](const auto& o) { return o.first; });
    return found == options.end() ? std::string() : found->second;
  };
  for (const auto& [name, value] : reference) {
    rows.push_back({name, value, value_of(candidate, name)});
  }
  for (const auto& [name, value] : candidate) {
    if (value_of(reference, name).empty()) rows.push_back({name, "", value});
  }
  std::string out = "<h1>dither compare</h1>\n";
  if (const auto& request = comparison.request) {
    out += fmt::format("<p>&ldquo;{}&rdquo;, seed {}, {} x {}, {} steps, guidance {}</p>\n",
                       html::escape(request->prompt), request->seed, request->width,
                       request->height, request->num_inference_steps, request->guidance_scale);
  }
  return out + html::table(rows, rows.front().size());
}

std::string result(const Comparison& comparison) {
  Rows rows = {{"", "cosine", "MAE", "RMSE", "max abs", "L2", "L2, relative", "PSNR (dB)"}};
  const auto add = [&rows](std::string title, const Similarity& similarity, std::string psnr) {
    rows.push_back({std::move(title), fmt::format("{:.6f}", similarity.cosine),
                    number(similarity.mae), number(similarity.rmse), number(similarity.max_abs),
                    number(similarity.l2), number(similarity.relative_l2), std::move(psnr)});
  };
  if (!comparison.steps.empty()) {
    add(fmt::format("latents after step {}", comparison.selected().step),
        comparison.selected().similarity, "");
  }
  for (const auto& [name, similarity] : comparison.embeddings) add(name, similarity, "");
  const auto add_picture = [&](std::string_view title, const PictureSimilarity& frame) {
    add(std::string(title), frame.pixels, fmt::format("{:.2f}", frame.psnr_db));
  };
  for (const auto& [index, name] : shown_frames(comparison.frames.size())) {
    add_picture(name.empty() ? "picture" : name, comparison.frames[index]);
  }
  if (comparison.frames.size() > 1) add_picture("all frames", comparison.all_frames);
  return heading("Result") + html::table(rows, 1);
}

/// Of a video. Equal frames, whose PSNR is infinite, lie on the curve's upper edge.
std::string frame_curve(const Comparison& comparison) {
  constexpr double kMostDb = 100;
  if (comparison.frames.size() < 2) return {};
  std::vector<double> values;
  for (const PictureSimilarity& frame : comparison.frames) {
    values.push_back(std::min(frame.psnr_db, kMostDb));
  }
  return html::curve(fmt::format("PSNR of every frame (dB, at most {})", kMostDb), values);
}

std::string pictures(const Comparison& comparison) {
  if (comparison.frames.empty()) return {};
  const auto& references = comparison.reference.pictures;
  const auto& candidates = comparison.candidate.pictures;
  std::string out = heading("Pictures");
  const std::vector<ShownFrame> shown = shown_frames(comparison.frames.size());
  for (std::size_t i = 0; i < std::min({shown.size(), references.size(), candidates.size()}); ++i) {
    const std::string which = shown[i].name.empty() ? "" : fmt::format(", {}", shown[i].name);
    out += html::picture(references[i], "reference" + which) +
           html::picture(candidates[i], "candidate" + which) +
           html::picture(amplified_difference(references[i], candidates[i], kGain),
                         fmt::format("difference x {}{}", kGain, which));
  }
  return out + frame_curve(comparison);
}

std::string curves(const Comparison& comparison) {
  if (comparison.steps.empty()) return {};
  const auto curve = [&](std::string_view title, double Similarity::* metric) {
    std::vector<double> values;
    for (const StepSimilarity& step : comparison.steps) values.push_back(step.similarity.*metric);
    return html::curve(title, values);
  };
  return heading("Latents, step by step") + curve("cosine", &Similarity::cosine) +
         curve("MAE", &Similarity::mae) + curve("RMSE", &Similarity::rmse) +
         curve("max abs", &Similarity::max_abs);
}

std::string layers(const Comparison& comparison) {
  if (comparison.layers.empty()) return {};
  Rows rows = {{"layer", "reference", "candidate", "step", "cosine", "relative error"}};
  for (const LayerError& error : comparison.layers) {
    rows.push_back({error.layer, error.reference_execution, error.candidate_execution,
                    fmt::format("{}", error.step), fmt::format("{:.6f}", error.cosine),
                    fmt::format("{:.5f}", error.relative_l2)});
  }
  return heading("Output of each layer, the worst first") +
         "<p>Both sides are given the candidate's input; relative error is |c - r| / |r|.</p>\n" +
         html::table(rows, 3);
}

std::string precision(const Comparison& comparison) {
  if (comparison.precision.empty()) return {};
  std::string out = heading("Precision of the candidate");
  for (const std::string& line : comparison.candidate.precision_summary) {
    out += fmt::format("<p>{}</p>\n", html::escape(line));
  }
  Rows rows = {{"component", "layer", "stored", "executed", "kernel", "scales", "fallback"}};
  for (const LayerPrecisionRow& row : comparison.precision) {
    rows.push_back({row.component, row.layer, row.stored, row.executed, row.kernel,
                    row.scale_source, row.fallback});
  }
  return out + html::table(rows, rows.front().size());
}

std::string timings(const Comparison& comparison) {
  if (comparison.reference.generation_time_s.empty()) return {};
  Rows rows = {
      {"", "runs", "mean (s)", "fastest (s)", "slowest (s)", "peak memory (MiB)", "weights (MiB)"}};
  const auto add = [&rows](const char* title, const ComparedSide& side) {
    const auto [fastest, slowest] = std::ranges::minmax(side.generation_time_s);
    rows.push_back({title, fmt::format("{}", side.generation_time_s.size()),
                    fmt::format("{:.3f}", mean(side.generation_time_s)),
                    fmt::format("{:.3f}", fastest), fmt::format("{:.3f}", slowest),
                    fmt::format("{:.1f}", std::ranges::max(side.peak_memory_mb)),
                    fmt::format("{:.1f}", static_cast<double>(side.transformer_weight_bytes) /
                                              (1024.0 * 1024.0))});
  };
  add("reference", comparison.reference);
  add("candidate", comparison.candidate);
  return heading("Timings") + html::table(rows, 1);
}

}  // namespace

std::string comparison_html(const Comparison& comparison) {
  return std::string(kHead) + introduction(comparison) + result(comparison) + pictures(comparison) +
         curves(comparison) + timings(comparison) + layers(comparison) + precision(comparison) +
         fmt::format("<p class=\"axis\">dither {} ({})</p>\n</body></html>\n", version(),
                     commit_hash());
}

}  // namespace dither

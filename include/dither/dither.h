#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__GNUC__)
#define DITHER_API __attribute__((visibility("default")))
#else
#define DITHER_API
#endif

/// The public C++ API of Dither: load a diffusers model folder, generate, take the pixels.
///
///   auto pipeline = dither::api::Pipeline::load({.model_path = "models/emoji-flux"});
///   auto images = pipeline.generate({.prompt = "a red apple"});
///   images[0].save_png("apple.png");
namespace dither::api {

/// Thrown by every function below. what() is one line that names the file, tensor or option;
/// code() is its category in lower case: "invalid_argument", "not_found", "data_loss", ...
class DITHER_API Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message);
  ~Error() override;
  const std::string& code() const noexcept { return code_; }

 private:
  std::string code_;
};

/// Every member has an initializer, so that {.model_path = "..."} compiles without warnings.
struct LoadOptions {
  std::string model_path = {};                              ///< a diffusers model folder
  std::map<std::string, std::string> component_paths = {};  ///< e.g. {"transformer", "path"}
  std::string dtype = "auto";                               ///< "auto" (as stored), "bf16" or "f32"
  std::string device = "auto";                              ///< "auto", "cpu" or "cuda"
  int threads = 0;  ///< CPU: 0 takes what the process may use
};

/// Fields left out take the model's own defaults.
struct GenerateOptions {
  std::string prompt = {};
  std::optional<std::string> negative_prompt = {};
  std::optional<int> width = {};
  std::optional<int> height = {};
  std::optional<int> num_inference_steps = {};
  std::optional<double> guidance_scale = {};
  std::optional<double> true_cfg_scale = {};
  std::optional<int> max_sequence_length = {};
  std::uint64_t seed = 0;
  int num_outputs_per_prompt = 1;  ///< picture i uses seed + i
  /// PNG, JPEG or WebP files: pictures to follow or to edit (FLUX.2), or the one that a video
  /// begins with (Wan2.2-I2V-A14B, which needs it, and Wan2.2-TI2V-5B).
  std::vector<std::string> image_paths = {};
};

/// Told after every denoising step.
struct Progress {
  int image = 0;  ///< 0-based
  int images = 1;
  int step = 0;  ///< steps done
  int steps = 0;
  double step_ms = 0;
};
/// Return false to stop; generate() then throws an Error with code "cancelled".
using ProgressCallback = std::function<bool(const Progress&)>;

/// 8-bit RGB, row-major, width * height * 3 bytes.
struct DITHER_API Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;
  std::uint64_t seed = 0;

  /// Writes a PNG; an existing file is replaced only by a complete one.
  void save_png(const std::string& path) const;
};

/// A loaded model. Movable; one request at a time.
class DITHER_API Pipeline {
 public:
  static Pipeline load(const LoadOptions& options);

  Pipeline(Pipeline&&) noexcept;
  Pipeline& operator=(Pipeline&&) noexcept;
  ~Pipeline();

  /// One picture for each seed, or of a model that makes videos all frames of each, in order.
  std::vector<Image> generate(const GenerateOptions& options,
                              const ProgressCallback& progress = {});

 private:
  struct Impl;
  explicit Pipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// "0.1.0"
DITHER_API std::string version();

}  // namespace dither::api

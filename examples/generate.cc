// Draws one picture: generate MODEL_FOLDER PROMPT OUTPUT.png
#include <dither/dither.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL_FOLDER PROMPT OUTPUT.png\n", argv[0]);
    return 2;
  }
  try {
    auto pipeline = dither::api::Pipeline::load({.model_path = argv[1]});
    const auto images = pipeline.generate({.prompt = argv[2]}, [](const auto& progress) {
      std::printf("\rstep %d/%d", progress.step, progress.steps);
      return true;  // false would stop
    });
    images.at(0).save_png(argv[3]);
    std::printf("\n%s: %d x %d\n", argv[3], images[0].width, images[0].height);
  } catch (const dither::api::Error& error) {
    std::fprintf(stderr, "%s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}

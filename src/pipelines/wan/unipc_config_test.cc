#include "pipelines/wan/unipc_config.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Values;

/// Wan2.2's scheduler_config.json and the keys that newer versions of diffusers write.
nlohmann::json published() {
  return nlohmann::json::parse(R"({
    "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.42.1", "beta_end": 0.02,
    "beta_schedule": "linear", "beta_start": 0.0001, "disable_corrector": [],
    "dynamic_thresholding_ratio": 0.995, "final_sigmas_type": "zero", "flow_shift": 3.0,
    "lower_order_final": true, "num_train_timesteps": 1000, "predict_x0": true,
    "prediction_type": "flow_prediction", "rescale_betas_zero_snr": false,
    "sample_max_value": 1.0, "shift_terminal": null, "sigma_max": null, "sigma_min": null,
    "solver_order": 2, "solver_p": null, "solver_type": "bh2", "steps_offset": 0,
    "thresholding": false, "time_shift_type": "exponential", "timestep_spacing": "linspace",
    "trained_betas": null, "use_beta_sigmas": false, "use_dynamic_shifting": false,
    "use_exponential_sigmas": false, "use_flow_sigmas": true, "use_karras_sigmas": false})");
}

TEST(UniPcConfig, ReadsWhatWanPublishes) {
  const JsonConfig json = JsonConfig::parse(published().dump(), "scheduler_config.json");
  const schedulers::UniPcConfig config = parse_unipc_config(json);
  EXPECT_EQ(config.flow_shift, 3.0);
  EXPECT_EQ(config.solver_order, 2);
  EXPECT_EQ(config.num_train_timesteps, 1000);
  EXPECT_THAT(json.unread_keys(), IsEmpty());
}

struct BadValue {
  const char* key;
  const char* value;  ///< JSON; empty: the key is removed
  ErrorCode code = ErrorCode::kUnsupported;
};

void PrintTo(const BadValue& bad, std::ostream* out) { *out << bad.key << ' ' << bad.value; }

class UniPcBadValue : public ::testing::TestWithParam<BadValue> {};

TEST_P(UniPcBadValue, IsRefusedByFileAndKey) {
  nlohmann::json json = published();
  json.erase(GetParam().key);
  if (*GetParam().value != '\0') json[GetParam().key] = nlohmann::json::parse(GetParam().value);
  const Error error = error_of(
      [&] { parse_unipc_config(JsonConfig::parse(json.dump(), "scheduler_config.json")); });
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  EXPECT_THAT(error.what(), AllOf(HasSubstr("scheduler_config.json"), HasSubstr(GetParam().key)));
}

// Absent keys are diffusers' defaults, which for these two are other solvers.
INSTANTIATE_TEST_SUITE_P(Table, UniPcBadValue,
                         Values(BadValue{"_class_name", R"("DPMSolverMultistepScheduler")"},
                                BadValue{"prediction_type", ""}, BadValue{"use_flow_sigmas", ""},
                                BadValue{"solver_type", R"("bh1")"}, BadValue{"solver_order", "3"},
                                BadValue{"solver_p", R"("DDIMScheduler")"},
                                BadValue{"disable_corrector", "[0, 1]"},
                                BadValue{"lower_order_final", "false"},
                                BadValue{"use_dynamic_shifting", "true"},
                                BadValue{"shift_terminal", "0.02"},
                                BadValue{"flow_shift", "-1", ErrorCode::kInvalidArgument},
                                BadValue{"flow_shift", R"("3")", ErrorCode::kDataLoss}));

}  // namespace
}  // namespace dither

#include "pipelines/wan/unipc_config.h"

#include <cstdint>
#include <string>
#include <vector>

#include "pipelines/component_configs.h"

namespace dither {

schedulers::UniPcConfig parse_unipc_config(const JsonConfig& json) {
  json.expect<std::string>("_class_name", "UniPCMultistepScheduler");
  schedulers::UniPcConfig config;
  json.read("num_train_timesteps", config.num_train_timesteps);
  json.read("flow_shift", config.flow_shift);
  json.read("solver_order", config.solver_order);
  // diffusers' defaults where they are not Wan's: an absent key must not pass for Wan's value.
  config.prediction_type = json.get<std::string>("prediction_type", "epsilon");
  config.use_flow_sigmas = json.get<bool>("use_flow_sigmas", false);
  json.read("solver_type", config.solver_type);
  json.read("final_sigmas_type", config.final_sigmas_type);
  json.read("predict_x0", config.predict_x0);
  json.read("lower_order_final", config.lower_order_final);
  json.read("disable_corrector", config.disable_corrector);
  json.read("thresholding", config.thresholding);
  json.read("use_dynamic_shifting", config.use_dynamic_shifting);
  config.shift_terminal = json.find<double>("shift_terminal");
  json.read("use_karras_sigmas", config.use_karras_sigmas);
  json.read("use_exponential_sigmas", config.use_exponential_sigmas);
  json.read("use_beta_sigmas", config.use_beta_sigmas);
  json.expect<std::string>("solver_p", "");
  json.ignore({"beta_end", "beta_schedule", "beta_start", "dynamic_thresholding_ratio",
               "rescale_betas_zero_snr", "sample_max_value", "sigma_max", "sigma_min",
               "steps_offset", "time_shift_type", "timestep_spacing", "trained_betas"});
  finish_config(json, [&] { schedulers::validate(config); });
  return config;
}

}  // namespace dither

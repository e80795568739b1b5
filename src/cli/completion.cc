#include "cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cli/options.h"

namespace dither::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  dither completion bash > ~/.local/share/bash-completion/completions/dither
  dither completion zsh  > ~/.zfunc/_dither        with fpath+=~/.zfunc before compinit
  dither completion fish > ~/.config/fish/completions/dither.fish)";

/// `text` inside single quotes of a POSIX shell, zsh or fish.
std::string single_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

bool takes_path(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == "FILE" || type == "DIR" || type == "PNG" || type == "PATH";
}

/// Commands first, then the options of the command that was typed; files everywhere else.
std::string bash_script(const CLI::App& app) {
  std::string cases;
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(app)) {
    names.push_back(command->get_name());
    cases +=
        fmt::format("    {}) words={} ;;\n", command->get_name(),
                    single_quoted(fmt::format("{}", fmt::join(long_option_names(*command), " "))));
  }
  return fmt::format(R"(# dither: completion for bash
_dither() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words
  case ${{COMP_WORDS[1]}} in
{}    *) words={} ;;
  esac
  if [[ $COMP_CWORD -eq 1 || $current == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _dither dither
)",
                     cases,
                     single_quoted(fmt::format("{} --help --version", fmt::join(names, " "))));
}

/// "'--seed[Seed of ...]:N:'", with _files where the value is a path.
std::string zsh_option(const CLI::Option& option, const std::string& name) {
  std::string text = option.get_description();
  std::ranges::replace(text, '[', '(');
  std::ranges::replace(text, ']', ')');
  std::string spec = fmt::format("{}[{}]", name, text);
  if (option.get_items_expected_max() > 0) {
    spec += fmt::format(":{}:{}", option.get_type_name(), takes_path(option) ? "_files" : "");
  }
  return single_quoted(spec);
}

std::string zsh_script(const CLI::App& app) {
  std::string described;
  std::string cases;
  for (const CLI::App* command : commands_of(app)) {
    described +=
        "    " + single_quoted(command->get_name() + ":" + command->get_description()) + "\n";
    cases += fmt::format("    {}) _arguments", command->get_name());
    for (const CLI::Option* option : command->get_options()) {
      for (const auto& name : option->get_lnames()) {
        cases += " \\\n      " + zsh_option(*option, "--" + name);
      }
    }
    cases += " '*:file:_files' ;;\n";
  }
  return fmt::format(R"(#compdef dither
# dither: completion for zsh
_dither() {{
  local -a commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{}  esac
}}
if [[ $funcstack[1] == _dither ]]; then _dither "$@"; else compdef _dither dither; fi
)",
                     described, cases);
}

std::string fish_script(const CLI::App& app) {
  std::string script =
      "# dither: completion for fish\ncomplete -c dither -n __fish_use_subcommand -f\n";
  for (const CLI::App* command : commands_of(app)) {
    script += fmt::format("complete -c dither -n __fish_use_subcommand -a {} -d {}\n",
                          command->get_name(), single_quoted(command->get_description()));
    for (const CLI::Option* option : command->get_options()) {
      for (const auto& name : option->get_lnames()) {
        script += fmt::format(
            "complete -c dither -n '__fish_seen_subcommand_from {}' -l {}{} -d {}\n",
            command->get_name(), name, option->get_items_expected_max() > 0 ? " -r" : "",
            single_quoted(option->get_description()));
      }
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  if (shell == "bash") return bash_script(app);
  return shell == "zsh" ? zsh_script(app) : fish_script(app);
}

void add_completion(CLI::App& app) {
  CLI::App* const command = app.add_subcommand("completion", "Print a shell completion script");
  const auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(one_of({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
  command->footer(kExamples);
  command->callback([&app, shell] { fmt::print("{}", completion_script(app, *shell)); });
}

}  // namespace dither::cli

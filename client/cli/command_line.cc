#include "client/cli/command_line.h"

#include <algorithm>
#include <set>
#include <utility>

namespace holdfast {
namespace {

// "--exclude", "-x": every option whose value is the next argument.
std::set<std::string> OptionsWithValues(const CLI::App& app) {
  std::set<std::string> out;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() || option->get_expected_min() == 0) continue;
    for (const std::string& name : option->get_lnames()) out.insert("--" + name);
    for (const std::string& name : option->get_snames()) out.insert("-" + name);
  }
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    out.merge(OptionsWithValues(*command));
  }
  return out;
}

}  // namespace

CLI::App* AddCommand(CommandLine& line, CLI::App& parent, const std::string& name, const std::string& description,
                     const std::string& footer, CommandFunction run) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->footer(footer + "\n");
  command->callback([&line, run = std::move(run)] { line.selected = run; });
  AddCommonOptions(line, *command);
  return command;
}

void AddCommonOptions(CommandLine& line, CLI::App& command) {
  CommonOptions& o = line.common;
  const std::string group = "Common options";
  command
      .add_option("--server", o.server,
                  "Where the server listens: unix:/absolute/path (default: HOLDFAST_SERVER, "
                  "else this user's holdfastd)")
      ->type_name("ADDRESS")
      ->group(group);
  auto* file = command.add_option("--password-file", o.password.file, "Read the password from the first line of FILE")
                   ->type_name("FILE")
                   ->group(group);
  command
      .add_option("--password-command", o.password.command,
                  "Read the password from the first line that COMMAND prints (default: HOLDFAST_PASSWORD, else a "
                  "prompt)")
      ->type_name("COMMAND")
      ->group(group)
      ->excludes(file);
  command.add_flag("--json", o.json, "Print the result as JSON")->group(group);
}

void AddRepositoryOption(CLI::App& command, std::string* repository) {
  command.add_option("--repository,-r", *repository, "The repository (default: \"default\")")->type_name("NAME");
}

CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>* values,
                           const std::string& description) {
  return command.add_option(name, *values, description)->allow_extra_args(false);
}

std::string UnknownCommand(CLI::App& app, const std::vector<std::string>& words) {
  CLI::App* at = &app;
  for (const std::string& word : words) {
    const std::vector<CLI::App*> commands = at->get_subcommands([](CLI::App*) { return true; });
    if (word.empty() || word[0] == '-' || commands.empty()) return "";
    auto found = std::find_if(commands.begin(), commands.end(), [&](CLI::App* c) { return c->check_name(word); });
    if (found == commands.end()) return word;
    at = *found;
  }
  return "";
}

std::vector<std::string> SpellLiterally(const CLI::App& app, std::vector<std::string> words) {
  const std::set<std::string> with_values = OptionsWithValues(app);
  std::string before;
  for (std::string& word : words) {
    const bool is_value = with_values.contains(before);
    before = word;
    const bool is_list = word.size() > 1 && word.front() == '[' && word.back() == ']';
    if (!is_value && (is_list || word == "++")) word.insert(0, "./");
  }
  return words;
}

}  // namespace holdfast

// SPDX-License-Identifier: Apache-2.0
// A table from each command to the words that may follow it; a shell's script looks up the longest
// command that has been typed.
#include "tools/pages/command_tree.hpp"

#include <sstream>

namespace kvferry::tools {

namespace {

std::string last_word(const std::string& name) {
    return name.substr(name.rfind(' ') + 1);
}

std::string words_after(const described_command& x) {
    std::string result;
    const auto add = [&result](const std::string& word) {
        result += (result.empty() ? "" : " ") + word;
    };
    for (const auto& each : x.subcommands)
        add(last_word(each.name));
    for (const auto& option : x.options)
        for (const auto& name : option.names)
            if (name.starts_with("-"))
                add(name);
    return result;
}

template <class Visit>
void for_each(const described_command& x, const Visit& visit) {
    visit(x);
    for (const auto& each : x.subcommands)
        for_each(each, visit);
}

/// In single quotes, as fish wants it.
std::string quoted(const std::string& text) {
    std::string result = "'";
    for (char x : text.substr(0, text.find('\n')))
        if (x == '\'' || x == '\\')
            result.append({'\\', x});
        else
            result += x;
    return result + "'";
}

} // namespace

std::string bash_completion(const described_command& x) {
    std::ostringstream out;
    out << "# bash completion of kvferry; made by `kvferry pages bash`\n"
           "_kvferry() {\n"
           "    local word command=kvferry words='' index\n"
           "    for ((index = 1; index < COMP_CWORD; ++index)); do\n"
           "        word=${COMP_WORDS[index]}\n"
           "        case \"$command $word\" in\n";
    for_each(x, [&out](const auto& each) {
        if (each.name.find(' ') != each.name.npos)
            out << "        '" << each.name << "') command='" << each.name << "' ;;\n";
    });
    out << "        esac\n"
           "    done\n"
           "    case \"$command\" in\n";
    for_each(x, [&out](const auto& each) {
        out << "    '" << each.name << "') words='" << words_after(each) << "' ;;\n";
    });
    out << "    esac\n"
           "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
           "}\n"
           "complete -o default -F _kvferry kvferry\n";
    return out.str();
}

std::string zsh_completion(const described_command& x) {
    auto script = bash_completion(x);
    const std::string bash_only = "    mapfile -t COMPREPLY < <(";
    const auto at = script.find(bash_only);
    script.replace(at, bash_only.size(), "    COMPREPLY=($(");
    script.replace(script.find("\")\n", at), 3, "\"))\n");
    return "#compdef kvferry\nautoload -U +X bashcompinit && bashcompinit\n" + script;
}

std::string fish_completion(const described_command& x) {
    std::ostringstream out;
    out << "# fish completion of kvferry; made by `kvferry pages fish`\n";
    for (const auto& each : x.subcommands)
        out << "complete -c kvferry -n __fish_use_subcommand -a " << last_word(each.name) << " -d "
            << quoted(each.description) << "\n";
    for (const auto& each : x.subcommands) {
        const auto seen = " -n '__fish_seen_subcommand_from " + last_word(each.name) + "'";
        for (const auto& below : each.subcommands)
            out << "complete -c kvferry" << seen << " -a " << last_word(below.name) << " -d "
                << quoted(below.description) << "\n";
        for (const auto& option : each.options)
            for (const auto& name : option.names)
                if (name.starts_with("--"))
                    out << "complete -c kvferry" << seen << " -l " << name.substr(2)
                        << (option.value.empty() ? "" : " -r") << " -d "
                        << quoted(option.description) << "\n";
    }
    return out.str();
}

} // namespace kvferry::tools

// SPDX-License-Identifier: Apache-2.0
// roff, with the few macros of man(7).
#include "tools/pages/command_tree.hpp"

#include <sstream>

namespace kvferry::tools {

namespace {

std::string escaped(const std::string& text) {
    std::string result;
    for (char x : text)
        if (x == '\\')
            result += "\\e";
        else if (x == '-')
            result += "\\-";
        else
            result += x;
    return result;
}

/// Text line by line; a line that would be a macro is not one.
void add_text(std::ostream& out, const std::string& text) {
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);)
        out << (line.starts_with(".") || line.starts_with("'") ? "\\&" : "") << escaped(line)
            << "\n";
}

void add_option(std::ostream& out, const described_option& x) {
    out << ".TP\n\\fB";
    for (std::size_t index = 0; index < x.names.size(); ++index)
        out << (index == 0 ? "" : ", ") << escaped(x.names[index]);
    out << "\\fR" << (x.value.empty() ? "" : " \\fI" + escaped(x.value) + "\\fR") << "\n";
    add_text(out, x.description.empty() ? "(no more is said of it)" : x.description);
}

/// Everything below one command, its subcommands after it.
void add_command(std::ostream& out, const described_command& x) {
    out << ".SS \"" << escaped(x.name) << "\"\n";
    add_text(out, x.description);
    for (const auto& option : x.options)
        add_option(out, option);
    if (!x.footer.empty()) {
        out << ".PP\n.nf\n";
        add_text(out, x.footer);
        out << ".fi\n";
    }
    for (const auto& each : x.subcommands)
        add_command(out, each);
}

} // namespace

std::string man_page(const described_command& x, const std::string& version) {
    std::ostringstream out;
    out << ".TH KVFERRY 1 \"\" \"kvferry " << escaped(version) << "\" \"User Commands\"\n"
        << ".SH NAME\nkvferry \\- moves LLM KV caches between processes\n"
        << ".SH SYNOPSIS\n.B kvferry\n.I subcommand\n[\\fIoptions\\fR]\n.SH DESCRIPTION\n";
    add_text(out, x.description);
    out << ".SH OPTIONS\n";
    for (const auto& option : x.options)
        add_option(out, option);
    out << ".SH SUBCOMMANDS\n";
    for (const auto& each : x.subcommands)
        add_command(out, each);
    out << ".SH EXIT STATUS\n"
           "0 success, 1 what it should show or do did not hold, 2 a command line that makes no "
           "sense.\n"
           ".SH ENVIRONMENT\n\\fBKVFERRY_LOG\\fR, \\fBKVFERRY_LOG_FORMAT\\fR, "
           "\\fBKVFERRY_METRICS\\fR, \\fBKVFERRY_TRACE_DIR\\fR, \\fBKVFERRY_FLIGHT\\fR: see "
           "REFERENCE.md in the documentation's folder.\n";
    return out.str();
}

} // namespace kvferry::tools

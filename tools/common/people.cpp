// SPDX-License-Identifier: Apache-2.0
// A stream buffer that collects lines, and what is done to a line.
#include "tools/common/people.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

namespace kvferry::tools {

namespace {

/// Bytes of the character that begins with this byte, in UTF-8.
std::size_t bytes_of(char first) {
    const auto byte = static_cast<unsigned char>(first);
    return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/// What comes next: one character, or a control sequence (ESC [ ... letter) that takes no room.
struct piece {
    std::string_view text;
    bool visible = true;
};

piece next_piece(std::string_view from) {
    if (from.starts_with("\x1b[")) {
        const auto end = std::find_if(from.begin() + 2, from.end(), [](char x) {
            return std::isalpha(static_cast<unsigned char>(x)) != 0;
        });
        const auto size = static_cast<std::size_t>(end - from.begin()) + (end != from.end());
        return {from.substr(0, size), false};
    }
    return {from.substr(0, bytes_of(from[0])), true};
}

std::size_t width_of(std::string_view line) {
    std::size_t result = 0;
    for (; !line.empty();) {
        const auto next = next_piece(line);
        result += next.visible;
        line.remove_prefix(next.text.size());
    }
    return result;
}

bool is_line_drawing(std::string_view x) { // U+2500 to U+257F
    return x.size() == 3 && x[0] == '\xe2' && (x[1] == '\x94' || x[1] == '\x95');
}

bool is_picture(std::string_view line) {
    for (; !line.empty();) {
        const auto next = next_piece(line);
        if (is_line_drawing(next.text))
            return true;
        line.remove_prefix(next.text.size());
    }
    return false;
}

std::string cut(std::string_view line, std::size_t columns) {
    std::string result;
    for (std::size_t used = 0; !line.empty();) {
        const auto next = next_piece(line);
        if (next.visible && ++used > columns - 1)
            break;
        result += next.text;
        line.remove_prefix(next.text.size());
    }
    return result + ">";
}

/// Where the last cell begins that leaves half of the room to its text.
std::size_t hanging_indent(std::string_view line, std::size_t columns) {
    std::size_t result = 0;
    for (std::size_t at = 2; at < std::min(line.size(), columns / 2 + 1); ++at)
        if (line[at] != ' ' && line[at - 1] == ' ' && line[at - 2] == ' ')
            result = at;
    return result;
}

std::string ascii_of(std::string_view x) {
    static constexpr std::array<std::pair<std::string_view, char>, 14> known{{{"─", '-'},
                                                                              {"━", '-'},
                                                                              {"═", '-'},
                                                                              {"│", '|'},
                                                                              {"┃", '|'},
                                                                              {"║", '|'},
                                                                              {"▶", '>'},
                                                                              {"→", '>'},
                                                                              {"◀", '<'},
                                                                              {"✓", '+'},
                                                                              {"✗", 'x'},
                                                                              {"×", 'x'},
                                                                              {"µ", 'u'},
                                                                              {"…", '.'}}};
    for (const auto& [character, plain] : known)
        if (x == character)
            return {plain};
    return is_line_drawing(x) ? "+" : "?";
}

class line_buffer final : public std::streambuf {
public:
    line_buffer(std::ostream& under, int fd) : under_(under), fd_(fd) {}

private:
    int_type overflow(int_type x) override {
        if (traits_type::eq_int_type(x, traits_type::eof()))
            return traits_type::not_eof(x);
        line_ += traits_type::to_char_type(x);
        if (line_.back() == '\n')
            write_line();
        return x;
    }

    int sync() override {
        write_line();
        under_.flush();
        return under_ ? 0 : -1;
    }

    void write_line() {
        const bool whole = !line_.empty() && line_.back() == '\n';
        if (whole)
            line_.pop_back();
        auto text = locale_shows_utf8() ? std::move(line_) : to_ascii(line_);
        line_.clear();
        if (const auto columns = terminal_columns())
            text = fold_line(text, *columns);
        under_ << text;
        if (whole)
            under_ << '\n';
    }

    std::optional<std::size_t> terminal_columns() const {
        winsize size{};
        if (::isatty(fd_) == 0 || ::ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
            return {};
        return size.ws_col;
    }

    std::ostream& under_;
    int fd_;
    std::string line_;
};

struct people_stream {
    people_stream(std::ostream& under, int fd) : buffer(under, fd), stream(&buffer) {}
    line_buffer buffer;
    std::ostream stream;
};

} // namespace

std::ostream& people() {
    static auto& result =
        *new people_stream{std::cout, STDOUT_FILENO}; // lives as long as std::cout
    return result.stream;
}

std::ostream& people_errors() {
    static auto& result = *new people_stream{std::cerr, STDERR_FILENO};
    return result.stream;
}

bool locale_shows_utf8() {
    for (const char* variable : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        const char* value = std::getenv(variable);
        if (value == nullptr || *value == '\0')
            continue;
        std::string name{value};
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char x) { return static_cast<char>(std::tolower(x)); });
        return name.find("utf-8") != name.npos || name.find("utf8") != name.npos;
    }
    return false;
}

std::string to_ascii(std::string_view text) {
    std::string result;
    for (; !text.empty();) {
        const auto character = text.substr(0, bytes_of(text[0]));
        const bool plain = character.size() == 1 && (character[0] & 0x80) == 0;
        result += plain ? std::string{character} : ascii_of(character);
        text.remove_prefix(character.size());
    }
    return result;
}

std::string fold_line(std::string_view line, std::size_t columns) {
    if (width_of(line) <= columns || columns < 8)
        return std::string{line};
    if (is_picture(line))
        return cut(line, columns);
    const auto indent = hanging_indent(line, columns);
    std::string result;
    std::string word; // with the spaces in front of it
    std::size_t word_width = 0;
    std::size_t used = 0;
    const auto new_line = [&] {
        result.append(1, '\n').append(indent, ' ');
        used = indent;
    };
    const auto put_word = [&] {
        if (used + word_width > columns && used > indent) {
            new_line();
            const auto spaces = std::min(word.find_first_not_of(' '), word.size());
            word.erase(0, spaces);
            word_width -= spaces;
        }
        result += word;
        used += word_width;
        word.clear();
        word_width = 0;
    };
    for (bool in_word = false; !line.empty();) {
        const auto next = next_piece(line);
        const bool space = next.text == " ";
        if (space && in_word)
            put_word();
        else if (word_width == columns - indent) { // longer than a line: broken anywhere
            put_word();
            new_line();
        }
        in_word = !space;
        word += next.text;
        word_width += next.visible;
        line.remove_prefix(next.text.size());
    }
    put_word();
    return result;
}

} // namespace kvferry::tools

// SPDX-License-Identifier: Apache-2.0
// Lines of text and the permissions of a file.
#include "transport/secure/deployment_secret.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/unique_fd.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kvferry {

namespace {

constexpr std::string_view how_to_make_one = "make one with `openssl rand -hex 32`";

std::string_view trimmed(std::string_view line) {
    constexpr std::string_view blank = " \t\r";
    const auto first = line.find_first_not_of(blank);
    if (first == line.npos)
        return {};
    return line.substr(first, line.find_last_not_of(blank) - first + 1);
}

bool is_printable(char x) {
    return x > ' ' && x <= '~';
}

} // namespace

caf::expected<std::vector<std::string>> parse_secrets(std::string_view text,
                                                      std::string_view from) {
    std::vector<std::string> result;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const auto end = std::min(text.find('\n'), text.size());
        const auto line = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.empty() || line.front() == '#')
            continue;
        if (line.size() < secret_characters_min || line.size() > secret_characters_max)
            return make_error(errc::invalid_argument,
                              "{}: the secret in line {} has {} characters, it must have {} to {}; "
                              "{}",
                              from, number, line.size(), secret_characters_min,
                              secret_characters_max, how_to_make_one);
        if (!std::all_of(line.begin(), line.end(), is_printable))
            return make_error(errc::invalid_argument,
                              "{}: the secret in line {} has blanks or characters outside ASCII; "
                              "{}",
                              from, number, how_to_make_one);
        if (std::find(result.begin(), result.end(), line) != result.end())
            return make_error(errc::invalid_argument, "{}: line {} repeats a secret", from, number);
        if (result.size() == secrets_max)
            return make_error(errc::invalid_argument,
                              "{} has more than {} secrets: take out those that are no longer used",
                              from, secrets_max);
        result.emplace_back(line);
    }
    if (result.empty())
        return make_error(errc::invalid_argument, "{} has no secret; {}", from, how_to_make_one);
    return result;
}

caf::expected<std::string> read_secret_file(const std::string& path, std::string_view what_it_is) {
    const auto name = std::string{what_it_is} + " " + path;
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (!file)
        return system_error(errc::invalid_argument, name);
    struct stat what {};
    if (::fstat(file.get(), &what) != 0)
        return system_error(errc::invalid_argument, name);
    if (!S_ISREG(what.st_mode))
        return make_error(errc::invalid_argument, "{} is not a plain file", name);
    if ((what.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        return make_error(errc::invalid_argument,
                          "{}: users other than its owner may {} it (mode {:04o}): "
                          "chmod 600 it (of a volume in Kubernetes: defaultMode 0440)",
                          name, (what.st_mode & S_IROTH) != 0 ? "read" : "change",
                          static_cast<unsigned>(what.st_mode & 07777));
    constexpr std::size_t bytes_max = 2 * secrets_max * (secret_characters_max + 1);
    std::string text(bytes_max + 1, '\0');
    std::size_t bytes = 0;
    while (bytes < text.size()) {
        const auto got = ::read(file.get(), text.data() + bytes, text.size() - bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_error(errc::invalid_argument, name);
        if (got == 0)
            break;
        bytes += static_cast<std::size_t>(got);
    }
    if (bytes > bytes_max)
        return make_error(errc::invalid_argument, "{} has more than {} bytes: is it the right one?",
                          name, bytes_max);
    text.resize(bytes);
    return text;
}

} // namespace kvferry

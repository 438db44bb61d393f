// SPDX-License-Identifier: Apache-2.0
// Looks at the folder itself, never through a link that somebody else may have put there.
#include "actors/observe/process_files.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

namespace kvferry {

std::string process_file_name(const std::string& name) {
    static const std::uint32_t mark = std::random_device{}();
    char end[40];
    std::snprintf(end, sizeof end, "-%ld.%08x", static_cast<long>(::getpid()), mark);
    auto result = name + end;
    std::replace(result.begin(), result.end(), '/', '-');
    return result;
}

caf::error make_private_folder(const std::string& folder, const char* variable) {
    const auto other = std::string{"name another folder in "} + variable;
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
        return system_error(errc::system_call_failed, "mkdir " + folder, other);
    struct stat found {};
    if (::lstat(folder.c_str(), &found) != 0)
        return system_error(errc::system_call_failed, "stat " + folder, other);
    if (!S_ISDIR(found.st_mode) || found.st_uid != ::geteuid() || (found.st_mode & 077) != 0)
        return make_error(
            errc::invalid_argument,
            "{} must be a folder of this user that nobody else may enter: chmod 700, or {}", folder,
            other);
    return {};
}

} // namespace kvferry

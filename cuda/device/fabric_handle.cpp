// SPDX-License-Identifier: Apache-2.0
// A mark and 64 bytes that nobody can change any more.
#include "cuda/device/fabric_handle.hpp"

#include "messages/values/error_format.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kvferry {

namespace {

struct file_content {
    char mark[16] = "kvferry fabric";
    fabric_handle handle = {};
};
static_assert(sizeof(file_content) == 80);

constexpr int sealed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

} // namespace

caf::expected<int> fabric_handle_file(const fabric_handle& handle) {
    file_content content;
    content.handle = handle;
    const auto descriptor = ::memfd_create("kvferry-fabric", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0 || ::write(descriptor, &content, sizeof(content)) != sizeof(content)
        || ::fcntl(descriptor, F_ADD_SEALS, sealed) != 0) {
        const auto problem = errno;
        if (descriptor >= 0)
            ::close(descriptor);
        return make_error(errc::unsupported, "no file for a FABRIC handle: {}",
                          std::strerror(problem));
    }
    return descriptor;
}

std::optional<fabric_handle> fabric_handle_in(int descriptor) {
    const auto seals = ::fcntl(descriptor, F_GET_SEALS); // -1 for all but files like ours
    struct stat file {};
    file_content content;
    if (seals < 0 || (seals & sealed) != sealed || ::fstat(descriptor, &file) != 0
        || file.st_size != sizeof(content)
        || ::pread(descriptor, &content, sizeof(content), 0) != sizeof(content)
        || std::memcmp(content.mark, file_content{}.mark, sizeof(content.mark)) != 0)
        return std::nullopt;
    return content.handle;
}

} // namespace kvferry

// SPDX-License-Identifier: Apache-2.0
// Makes, checks and maps the memory of a ring.
#include "transport/shm/ring_memory.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr const char* more_memory = "raise the limit of memory, of open files or of mappings";

std::uint64_t control_bytes() {
    return static_cast<std::uint64_t>(::getpagesize());
}

std::uint64_t file_bytes() {
    return control_bytes() + ring_bytes;
}

std::uint64_t mapped_bytes() {
    return file_bytes() + ring_bytes;
}

} // namespace

caf::expected<ring_memory> ring_memory::make() {
    ring_memory result;
    if (!made_to_fail("memfd_create"))
        result.fd_ = unique_fd{::memfd_create("kvferry-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!result.fd_)
        return system_error(errc::system_call_failed, "memfd_create", more_memory);
    if (::ftruncate(result.fd(), static_cast<off_t>(file_bytes())) != 0)
        return system_error(errc::system_call_failed, "ftruncate", more_memory);
    if (::fcntl(result.fd(), F_ADD_SEALS, seals) != 0)
        return system_error(errc::system_call_failed, "F_ADD_SEALS", "run on Linux 4.16 or later");
    if (auto problem = result.map_twice(result.fd()))
        return problem;
    return result;
}

/// Huge pages are refused, because a page of them can be missing at the first access.
caf::expected<ring_memory> ring_memory::map(int fd) {
    const auto found = ::fcntl(fd, F_GET_SEALS);
    if (found < 0 || (found & seals) != seals)
        return make_error(errc::registration_failed,
                          "a ring's descriptor is not a memfd whose size is sealed");
    struct statfs system {};
    struct stat file {};
    if (::fstatfs(fd, &system) != 0 || ::fstat(fd, &file) != 0)
        return system_error(errc::registration_failed, "fstat of a ring");
    if (system.f_type != TMPFS_MAGIC || static_cast<std::uint64_t>(file.st_size) != file_bytes())
        return make_error(errc::registration_failed,
                          "a ring's descriptor holds {} bytes, not {} of ordinary pages",
                          file.st_size, file_bytes());
    ring_memory result;
    if (auto problem = result.map_twice(fd))
        return problem;
    return result;
}

caf::error ring_memory::map_twice(int fd) {
    auto* address = made_to_fail("mmap ring")
                        ? MAP_FAILED
                        : ::mmap(nullptr, mapped_bytes(), PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED)
        return system_error(errc::system_call_failed, "mmap of a ring", more_memory);
    base_ = static_cast<std::byte*>(address);
    bytes_ = base_ + control_bytes();
    const auto place = [fd](std::byte* to, std::uint64_t count, std::uint64_t from) {
        return ::mmap(to, count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                      static_cast<off_t>(from))
               != MAP_FAILED;
    };
    if (!place(base_, file_bytes(), 0) || !place(base_ + file_bytes(), ring_bytes, control_bytes()))
        return system_error(errc::system_call_failed, "mmap of a ring", more_memory);
    if (::madvise(base_, mapped_bytes(), MADV_DONTFORK) != 0)
        return system_error(errc::system_call_failed, "madvise(MADV_DONTFORK)");
    ::madvise(base_, mapped_bytes(), MADV_DONTDUMP); // cores hold no prompts
    return {};
}

ring_memory::ring_memory(ring_memory&& other) noexcept
    : fd_(std::move(other.fd_)), base_(std::exchange(other.base_, nullptr)),
      bytes_(std::exchange(other.bytes_, nullptr)) {}

ring_memory::~ring_memory() {
    if (base_)
        ::munmap(base_, mapped_bytes());
}

} // namespace kvferry
